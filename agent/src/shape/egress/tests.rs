#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::sync::{Arc, Mutex};

use quotary_common::envelope::Name;

use super::form::{OTHERS, check};
use super::steps::{Steps, as_shown, steps, taking_away};
use super::*;

mod forms;
mod others;

/// A kernel that understands what `tc` and `nft` are told, and takes nothing else.
#[derive(Debug, Clone, Default)]
struct Kernel {
    seen: Seen,
    /// Group and class of each rule, in their order.
    rules: Vec<(String, u16)>,
}

impl Kernel {
    fn with(names: &[&str], root: &Root) -> Self {
        let one = |name: &&str| SeenInterface { name: (*name).to_owned(), root: root.clone(), classes: Vec::new() };
        Self { seen: Seen { interfaces: names.iter().map(one).collect(), has_table: false }, rules: Vec::new() }
    }

    /// What is there on these interfaces.
    fn on(&self, names: &[String]) -> Seen {
        let interfaces = self.seen.interfaces.iter().filter(|interface| names.contains(&interface.name));
        Seen { interfaces: interfaces.cloned().collect(), has_table: self.seen.has_table }
    }

    fn ours(&self) -> impl Iterator<Item = String> {
        let ours = self.seen.interfaces.iter().filter(|interface| interface.root == Root::Ours);
        ours.map(|interface| interface.name.clone())
    }

    fn interface(&mut self, name: &str) -> &mut SeenInterface {
        self.seen.interfaces.iter_mut().find(|interface| interface.name == name).unwrap()
    }

    fn apply(&mut self, steps: &Steps) {
        for line in steps.tc.lines().chain(steps.leaves.lines()) {
            self.tc(line);
        }
        if !steps.nft.is_empty() {
            self.nft(&steps.nft);
        }
    }

    fn tc(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let minor = |id: &str| u16::from_str_radix(id.strip_prefix("5154:").unwrap(), 16).unwrap();
        match words[..] {
            ["qdisc", "add", "dev", name, "root", "handle", "5154:", "htb", "default", "fff0"] => {
                let interface = self.interface(name);
                assert_eq!(interface.root, Root::Default, "only where nobody has set one");
                interface.root = Root::Ours;
            }
            ["qdisc", "del", "dev", name, "root", "handle", "5154:", "htb"] => {
                let interface = self.interface(name);
                assert_eq!(interface.root, Root::Ours, "only ours");
                (interface.root, interface.classes) = (Root::Default, Vec::new());
            }
            ["qdisc", "add", "dev", name, "parent", id, "fq_codel"] => {
                let minor = minor(id);
                assert!(self.interface(name).classes.iter().any(|class| class.minor == minor));
            }
            ["class", "del", "dev", name, "classid", id] => {
                let (interface, minor) = (self.interface(name), minor(id));
                assert_eq!(interface.root, Root::Ours);
                interface.classes.retain(|class| class.minor != minor);
            }
            ["class", verb, "dev", name, "parent", "5154:", "classid", id, "htb", "rate", rate, "ceil", ceil, ..] => {
                assert_eq!(rate, ceil);
                let (interface, minor) = (self.interface(name), minor(id));
                assert_eq!(interface.root, Root::Ours);
                let is_there = interface.classes.iter().any(|class| class.minor == minor);
                assert_eq!(is_there, verb == "change", "{line}");
                let shown = parse::classes(&format!("class htb {id} root rate {} \n", rate.replace('g', "G")));
                interface.classes.retain(|class| class.minor != minor);
                interface
                    .classes
                    .extend(shown.into_iter().map(|class| SeenClass { rate_bits: as_shown(class.rate_bits), ..class }));
            }
            _ => panic!("{line}"),
        }
    }

    fn nft(&mut self, text: &str) {
        self.rules.clear();
        self.seen.has_table = false;
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["add", "table", "inet", "quotary"] | ["delete", "table", "inet", "quotary"] => {}
                ["table", "inet", "quotary", "{"] => self.seen.has_table = true,
                ["chain", "egress", "{"] | ["type", "filter", "hook", "output", ..] | ["}"] => {}
                ["oifname", "\"lo\"", "accept"] => {}
                ["socket", "cgroupv2", "level", level, path, "meta", "priority", "set", class, "accept"] => {
                    let path = path.trim_matches('"');
                    assert_eq!(path.split('/').count().to_string(), level);
                    let minor = u16::from_str_radix(class.strip_prefix("5154:").unwrap(), 16).unwrap();
                    self.rules.push((format!("/{path}"), minor));
                }
                _ => panic!("{line}"),
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct FakeHand {
    kernel: Arc<Mutex<Kernel>>,
    /// Groups that run are directories below it.
    root: PathBuf,
    is_refusing: Arc<Mutex<bool>>,
    is_silent: Arc<Mutex<bool>>,
    asked: Arc<Mutex<usize>>,
    loads: Arc<Mutex<usize>>,
}

impl Hand for FakeHand {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        *self.asked.lock().unwrap() += 1;
        if *self.is_silent.lock().unwrap() {
            return Err(HandError::Io { step: "hear", source: std::io::ErrorKind::TimedOut.into() });
        }
        if *self.is_refusing.lock().unwrap() {
            return Err(HandError::Refused("not now".to_owned()));
        }
        let mut kernel = self.kernel.lock().unwrap();
        match request {
            Request::LookAtEgress(names) => Ok(Reply::Egress(kernel.on(names))),
            Request::BringEgress(wanted) => {
                let wanted = check(wanted.clone()).map_err(HandError::Refused)?;
                let tree = self.root.join("sys/fs/cgroup");
                let rules = wanted.rules_where(|group| tree.join(group.relative()).is_dir());
                let strays =
                    kernel.ours().filter(|name| wanted.load && !wanted.interfaces.contains(name)).collect::<Vec<_>>();
                let steps = steps(&kernel.on(&wanted.interfaces), &wanted, &rules, &strays);
                *self.loads.lock().unwrap() += usize::from(!steps.nft.is_empty());
                kernel.apply(&steps);
                Ok(Reply::Egress(kernel.on(&wanted.interfaces)))
            }
            Request::TakeEgress(unwanted) => {
                let steps = taking_away(&kernel.seen, &unwanted.minors);
                kernel.apply(&steps);
                Ok(Reply::Egress(kernel.on(&unwanted.interfaces)))
            }
            _ => panic!("{request:?}"),
        }
    }
}

/// A host with two services.
struct World {
    temp: tempfile::TempDir,
    hand: FakeHand,
    egress: Egress,
}

fn unit(name: &str) -> Target {
    Target::Unit(Name::lossy(name))
}

/// What is undone, known from this run.
fn the(name: &str) -> (Target, Option<Vec<u8>>) {
    (unit(name), None)
}

fn group(name: &str) -> GroupPath {
    GroupPath::parse(&format!("/system.slice/{name}")).unwrap()
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for name in ["a.service", "b.service"] {
            fs::create_dir_all(temp.path().join("sys/fs/cgroup/system.slice").join(name)).unwrap();
        }
        for name in ["eth0", "eth1"] {
            fs::create_dir_all(temp.path().join("sys/class/net").join(name).join("device")).unwrap();
        }
        let kernel = Arc::new(Mutex::new(Kernel::with(&["eth0", "eth1"], &Root::Default)));
        let hand = FakeHand { kernel, root: temp.path().to_path_buf(), ..FakeHand::default() };
        let mut egress = Egress::with(temp.path(), Box::new(hand.clone()), None);
        egress.look_again();
        Self { temp, hand, egress }
    }

    fn follow(&mut self, name: &str) {
        let place = Place { cgroup: group(name), instance: "1".into(), oomd_limit_permille: None, is_unit: true };
        self.egress.follow(&unit(name), Some(&place));
    }

    fn limit(&mut self, name: &str, bits: u64) -> Vec<u8> {
        self.follow(name);
        let note = self.egress.prior(&unit(name)).unwrap();
        self.egress.write(&unit(name), Value::Value(bits)).unwrap();
        note
    }

    fn restart(&self, name: &str) {
        // Another directory has another inode as long as the old one is still there.
        let dir = self.temp.path().join("sys/fs/cgroup/system.slice").join(name);
        fs::rename(&dir, dir.with_extension("old")).unwrap();
        fs::create_dir(&dir).unwrap();
    }

    fn kernel(&self) -> Kernel {
        self.hand.kernel.lock().unwrap().clone()
    }

    fn loads(&self) -> usize {
        *self.hand.loads.lock().unwrap()
    }
}

#[test]
fn a_limit_is_a_class_on_each_interface_and_a_rule_and_its_end_leaves_nothing() {
    let mut world = World::new();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited);
    world.limit("a.service", 8_000_000);
    world.limit("b.service", 3_000_000);
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(8_000_000));
    assert_eq!(world.egress.actual(&group("b.service")), Actual::Value(3_000_000));
    let kernel = world.kernel();
    assert_eq!(kernel.rules, [("/system.slice/a.service".to_owned(), 16), ("/system.slice/b.service".to_owned(), 32)]);
    for interface in &kernel.seen.interfaces {
        let minors: Vec<u16> = interface.classes.iter().map(|class| class.minor).collect();
        assert_eq!(minors, [OTHERS, 16, 32]);
    }
    world.egress.undo(&[the("a.service")]).unwrap();
    let minors = world.kernel().seen.interfaces.iter().map(|interface| interface.classes.len()).collect::<Vec<_>>();
    assert_eq!(minors, [2, 2], "its rule stands until the next is loaded, and gives its packets to nobody's class");
    assert_eq!(world.egress.actual(&group("b.service")), Actual::Value(3_000_000));
    world.egress.undo(&[the("b.service")]).unwrap();
    assert_eq!(world.kernel().seen, Kernel::with(&["eth0", "eth1"], &Root::Default).seen);
    assert_eq!(world.egress.actual(&group("b.service")), Actual::Unlimited);
}

#[test]
fn a_change_of_rate_loads_no_rule() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    let loads = world.loads();
    world.egress.write(&unit("a.service"), Value::Value(7_000_001)).unwrap();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(7_000_000));
    assert_eq!(world.loads(), loads);
}

#[test]
fn a_rate_is_compared_as_tc_shows_it() {
    for (asked, shown) in [
        (8, 8),
        (999, 999),
        (7_999_999, 7_999_000),
        (8_000_000, 8_000_000),
        (8_000_001, 8_000_000),
        (263_651_488, 263_651_000),
        (10_000_000_000, 10_000_000_000),
    ] {
        assert_eq!(as_shown(asked), shown, "{asked}");
    }
    // A small difference is made true all the same.
    let mut world = World::new();
    world.limit("a.service", 8_003_000);
    world.egress.write(&unit("a.service"), Value::Value(8_000_000)).unwrap();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(8_000_000));
}

#[test]
fn a_unit_that_is_started_anew_gets_its_rule_anew_within_a_second() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    world.egress.tick();
    let loads = world.loads();
    world.restart("a.service");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited, "the old rule fits nothing any more");
    world.egress.tick();
    assert_eq!(world.loads(), loads + 1);
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(8_000_000));
    world.egress.tick();
    assert_eq!(world.loads(), loads + 1, "and it is not loaded without need");
}

#[test]
fn a_rule_that_was_not_loaded_is_tried_again_and_counts_as_no_limit_meanwhile() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    world.restart("a.service");
    *world.hand.is_refusing.lock().unwrap() = true;
    world.egress.tick();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited);
    *world.hand.is_refusing.lock().unwrap() = false;
    world.egress.tick();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(8_000_000));
}

#[test]
fn a_restarted_agent_knows_its_own_again_and_takes_it_away() {
    let mut world = World::new();
    let note = world.limit("b.service", 5_000_000);
    let hand: Box<dyn Hand> = Box::new(world.hand.clone());
    let mut again = Egress::with(world.temp.path(), hand, None);
    again.recall(&unit("b.service"), &note);
    again.tick();
    assert_eq!(again.actual(&group("b.service")), Actual::Value(5_000_000));
    // A second target gets a class of its own.
    let place = Place { cgroup: group("a.service"), instance: "1".into(), oomd_limit_permille: None, is_unit: true };
    again.follow(&unit("a.service"), Some(&place));
    again.prior(&unit("a.service")).unwrap();
    again.write(&unit("a.service"), Value::Value(1_000_000)).unwrap();
    assert_eq!(again.actual(&group("b.service")), Actual::Value(5_000_000));
    again.undo(&[the("a.service")]).unwrap();
    again.undo(&[the("b.service")]).unwrap();
    assert_eq!(world.kernel().seen, Kernel::with(&["eth0", "eth1"], &Root::Default).seen);
}

#[test]
fn an_agent_that_is_told_of_fewer_interfaces_takes_its_own_away_from_all() {
    let mut world = World::new();
    let note = world.limit("a.service", 5_000_000);
    let mut again = Egress::with(world.temp.path(), Box::new(world.hand.clone()), Some(&["eth0".into()]));
    again.recall(&unit("a.service"), &note);
    again.undo(&[the("a.service")]).unwrap();
    assert_eq!(world.kernel().seen, Kernel::with(&["eth0", "eth1"], &Root::Default).seen);
}

#[test]
fn a_limit_that_an_interface_lacks_is_none_and_a_write_that_was_refused_is_not_made_later() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    world.hand.kernel.lock().unwrap().seen.interfaces[1].classes.retain(|class| class.minor != 16);
    world.egress.tick();
    world.follow("a.service");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited);
    *world.hand.is_refusing.lock().unwrap() = true;
    world.egress.write(&unit("a.service"), Value::Value(1_000_000)).unwrap_err();
    *world.hand.is_refusing.lock().unwrap() = false;
    world.limit("b.service", 3_000_000);
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited, "whoever took it away has their way");
    world.limit("a.service", 5_000_000);
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(5_000_000));
}

#[test]
fn an_end_that_fails_stays_to_be_done() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    *world.hand.is_refusing.lock().unwrap() = true;
    world.egress.undo(&[the("a.service")]).unwrap_err();
    *world.hand.is_refusing.lock().unwrap() = false;
    world.egress.undo(&[the("a.service")]).unwrap();
    assert!(!world.kernel().seen.has_table);
}

#[test]
fn a_hand_that_is_silent_is_waited_for_once_a_tick_and_what_nobody_sees_is_not_there() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    world.limit("b.service", 8_000_000);
    *world.hand.is_silent.lock().unwrap() = true;
    world.egress.tick();
    let asked = *world.hand.asked.lock().unwrap();
    world.follow("a.service");
    world.follow("b.service");
    assert!(world.egress.write(&unit("a.service"), Value::Value(7_000_000)).is_err());
    assert!(world.egress.undo(&[the("a.service"), the("b.service")]).is_err());
    assert_eq!(*world.hand.asked.lock().unwrap(), asked + 2, "to look, and to let go");
    world.egress.tick();
    world.follow("a.service");
    assert_eq!(*world.hand.asked.lock().unwrap(), asked + 2, "nor is it at the next tick");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Absent);
    *world.hand.is_silent.lock().unwrap() = false;
    world.egress.patience = Patience::default();
    world.egress.tick();
    world.follow("a.service");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(8_000_000));
    world.egress.undo(&[the("a.service"), the("b.service")]).unwrap();
    assert!(!world.kernel().seen.has_table);
}

#[test]
fn a_host_that_cannot_says_why() {
    let temp = tempfile::tempdir().unwrap();
    let open = |named: Option<&[String]>| Egress::open(temp.path(), named).unwrap_err();
    assert!(open(None).contains("version 2"));
    fs::create_dir_all(temp.path().join("sys/fs/cgroup")).unwrap();
    fs::write(temp.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
    assert!(open(None).contains("quotary-agent-egress.socket"));
    let with = |root: Root, named: Option<&[String]>| {
        let hand = FakeHand { kernel: Arc::new(Mutex::new(Kernel::with(&["eth0"], &root))), ..FakeHand::default() };
        let mut egress = Egress::with(temp.path(), Box::new(hand), named);
        assert!(egress.why_not().is_some(), "nobody has looked yet");
        egress.look_again();
        egress.why_not().unwrap_or_default().to_owned()
    };
    assert!(with(Root::Default, None).contains("egress_interfaces"));
    fs::create_dir_all(temp.path().join("sys/class/net/eth0/device")).unwrap();
    fs::create_dir_all(temp.path().join("sys/class/net/veth1")).unwrap();
    assert_eq!(interfaces::with_hardware(temp.path()), ["eth0"]);
    assert!(with(Root::Foreign("cake 8001:".into()), None).contains("cake 8001:"));
    assert!(with(Root::Absent, Some(&["eth0".into()])).contains("none of its interfaces is there: eth0"));
    assert_eq!(with(Root::Default, None), "");
}

#[test]
fn the_rate_of_a_link_is_the_kernels_word_or_ten_gigabit() {
    let temp = tempfile::tempdir().unwrap();
    let eth0 = temp.path().join("sys/class/net/eth0");
    fs::create_dir_all(eth0.join("device")).unwrap();
    assert_eq!(link_bits(temp.path(), None), 10_000_000_000);
    fs::write(eth0.join("speed"), "1000\n").unwrap();
    assert_eq!(link_bits(temp.path(), None), 1_000_000_000);
    fs::write(eth0.join("speed"), "-1\n").unwrap();
    assert_eq!(link_bits(temp.path(), None), 10_000_000_000);
}

#[test]
fn what_flows_is_the_most_of_the_last_seconds() {
    let mut flow = Flow::default();
    flow.add(1_000, 5);
    assert_eq!(flow.most_bits(), None);
    flow.add(2_000, 1_000_005);
    flow.add(2_100, 9_000_005); // too near to tell anything
    flow.add(3_000, 1_500_005);
    assert_eq!(flow.most_bits(), Some(8_000_000));
    (4..14).for_each(|second| flow.add(second * 1_000, 1_500_005));
    assert_eq!(flow.most_bits(), Some(0));
    flow.add(20_000, 3); // began anew
    assert_eq!(flow.most_bits(), Some(0));
    flow.add(20_000, u64::MAX);
    flow.add(21_000, u64::MAX);
    assert_eq!(flow.most_bits(), Some(u64::MAX));
}

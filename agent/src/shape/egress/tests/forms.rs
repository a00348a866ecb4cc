//! What the tools print, and what they are told.

use proptest::prelude::*;

use super::super::form::{OTHERS, check};
use super::super::steps::{HANDLE, as_shown, steps, taking_away};
use super::super::*;
use super::*;

const CLASSES: &str = "\
class htb 5154:fff0 root leaf 8002: prio 0 rate 100Gbit ceil 100Gbit burst 1025000b cburst 1025000b 
 Sent 1234 bytes 10 pkt (dropped 0, overlimits 0 requeues 0) 
 backlog 0b 0p requeues 0
 lended: 0 borrowed: 0 giants: 0
class htb 5154:10 root leaf 8003: prio 0 rate 8Mbit ceil 8Mbit burst 16Kb cburst 16Kb 
 Sent 77 bytes 1 pkt (dropped 0, overlimits 0 requeues 0) 
class fq_codel 8003:1f parent 8003: 
 (dropped 0, overlimits 0 requeues 0) 
 Sent 5 bytes
class htb 1:20 root rate 1Mbit ceil 1Mbit
";

#[test]
fn classes_are_read_as_tc_prints_them() {
    let class = |minor, rate_bits, sent_bytes| SeenClass { minor, rate_bits, sent_bytes };
    assert_eq!(parse::classes(CLASSES), [class(OTHERS, 100_000_000_000, 1234), class(16, 8_000_000, 77)]);
    for bad in [
        "class htb 5154:zz rate 8Mbit",
        "class htb 5154:10",
        "class htb 5154:10 rate 8Mxx",
        "class htb 5154:+1 rate 8bit",
    ] {
        assert_eq!(parse::classes(bad), [], "{bad}");
    }
    let odd = parse::classes("class htb 5154:10 rate 7999999bit\n Sent lots bytes\n");
    assert_eq!(odd, [class(16, 7_999_999, 0)]);
    assert_eq!(parse::classes("class htb 5154:1 rate 18446744073709551615Tbit"), []);
}

#[test]
fn a_root_discipline_without_a_handle_is_the_kernels() {
    assert_eq!(parse::root("qdisc noqueue 0: root refcnt 2 \n"), Root::Default);
    assert_eq!(parse::root("qdisc mq 0: root \nqdisc fq_codel 0: parent :1 limit 10240p\n"), Root::Default);
    assert_eq!(parse::root("qdisc htb 5154: root refcnt 2 r2q 10 default 0xfff0\n"), Root::Ours);
    assert_eq!(parse::root("qdisc htb 1: root refcnt 2\n"), Root::Foreign("htb 1:".into()));
    assert_eq!(parse::root("qdisc fq_codel 5154: root\n"), Root::Foreign("fq_codel 5154:".into()));
    assert_eq!(
        parse::root("qdisc clsact ffff: parent ffff:fff1\nqdisc cake 8001: root\n"),
        Root::Foreign("cake 8001:".into())
    );
    assert!(matches!(parse::root(""), Root::Foreign(_)), "what is not shown is not ours to replace");
}

#[test]
fn interfaces_with_our_root_are_found_among_all() {
    let text = "qdisc noqueue 0: dev lo root refcnt 2 \nqdisc htb 5154: dev eth0 root refcnt 2 r2q 10 default 0xfff0\n\
                qdisc fq_codel 8003: dev eth0 parent 5154:10 limit 10240p\nqdisc htb 5154: dev wg0 root refcnt 2\n\
                qdisc htb 1: dev eth1 root\nqdisc htb 5154: dev a;b root\nqdisc cake 5154: dev eth2 root\n";
    assert_eq!(parse::ours(text), ["eth0", "wg0"]);
    assert!(parse::ours("").is_empty());
}

#[test]
fn our_table_is_found_among_others() {
    let list = |family: &str, name: &str| {
        format!(
            "{{\"nftables\": [{{\"metainfo\": {{}}}}, {{\"table\": {{\"family\": \"{family}\", \"name\": \"{name}\", \"handle\": 1}}}}]}}"
        )
    };
    assert_eq!(parse::has_table(&list("inet", "quotary")), Some(true));
    assert_eq!(parse::has_table(&list("ip", "quotary")), Some(false));
    assert_eq!(parse::has_table(&list("inet", "filter")), Some(false));
    for bad in ["", "{}", "[1]", "{\"nftables\": 5}", &"[".repeat(100_000)] {
        assert_eq!(parse::has_table(bad), None);
    }
}

#[test]
fn what_could_be_a_word_of_a_tool_is_refused() {
    let wanted = |name: &str, minor: u16, rate_bits: u64, cgroup: &str| {
        let classes = vec![Wish { minor, rate_bits, cgroup: cgroup.to_owned() }];
        check(Wanted { interfaces: vec![name.to_owned()], classes, ..Wanted::default() })
    };
    assert!(wanted("eth0", 16, 8, "/a/b.service").is_ok());
    assert!(wanted("eth0", 16, 8, r"/machine.slice/x\x2dy.scope").is_ok());
    for name in ["", "eth0 root", "eth0\nqdisc", "-batch", "a23456789012345x", "é", "eth0;"] {
        assert!(wanted(name, 16, 8, "/a").is_err(), "{name:?}");
    }
    for cgroup in ["/a\"b", "/a b", "/a\nb", "/a*", "a", "/", "/a/../b", "/é", "/a{", "/a#"] {
        assert!(wanted("eth0", 16, 8, cgroup).is_err(), "{cgroup:?}");
    }
    for minor in [0, 1, 17, OTHERS, 0xffff] {
        assert!(wanted("eth0", minor, 8, "/a").is_err(), "{minor}");
    }
    assert!(wanted("eth0", 16, 0, "/a").is_err() && wanted("eth0", 16, u64::MAX, "/a").is_err());
    let wish = Wish { minor: 16, rate_bits: 8, cgroup: "/a".into() };
    assert!(check(Wanted { classes: vec![wish.clone(), wish], ..Wanted::default() }).is_err(), "twice");
}

#[test]
fn the_innermost_group_counts() {
    let classes = ["/s.slice", "/s.slice/a.service", "/b"].into_iter().zip([16, 32, 48]);
    let classes = classes.map(|(cgroup, minor)| Wish { minor, rate_bits: 8_000, cgroup: cgroup.to_owned() }).collect();
    let wanted = check(Wanted { interfaces: vec!["eth0".into()], classes, load: true, touched: None }).unwrap();
    let mut kernel = Kernel::with(&["eth0"], &Root::Default);
    let rules = wanted.rules_where(|_| true);
    kernel.apply(&steps(&kernel.seen, &wanted, &rules, &[]));
    let order: Vec<&str> = kernel.rules.iter().map(|(group, _)| group.as_str()).collect();
    assert_eq!(order, ["/s.slice/a.service", "/b", "/s.slice"]);
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let one = (1_u16..30, 8_u64..1 << 40, "/[a-z]{1,8}\\.slice(/[a-z0-9:@._-]{1,20}\\.service)?");
    proptest::collection::vec(one, 0..12).prop_map(|all| {
        let mut wishes: Vec<Wish> = Vec::new();
        for (number, rate_bits, cgroup) in all {
            let minor = number * 16;
            if wishes.iter().all(|wish| wish.minor != minor) {
                wishes.push(Wish { minor, rate_bits, cgroup });
            }
        }
        wishes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The fake kernel refuses every line that names anything that is not ours.
    #[test]
    fn from_any_state_to_any_other_and_back_to_nothing(all in proptest::collection::vec((wishes(), any::<bool>()), 1..5)) {
        let names = ["eth0", "eth1"];
        let mut kernel = Kernel::with(&names, &Root::Default);
        kernel.seen.interfaces.push(SeenInterface { name: "gone".into(), root: Root::Absent, classes: Vec::new() });
        let interfaces: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        for (classes, load) in all {
            if classes.is_empty() {
                continue;
            }
            // One after the other is written, as the agent does.
            for minor in classes.iter().map(|wish| wish.minor) {
                let (classes, load) = (classes.clone(), load || !kernel.seen.has_table);
                let wanted =
                    check(Wanted { interfaces: interfaces.clone(), classes, load, touched: Some(minor) }).unwrap();
                let rules = wanted.rules_where(|_| true);
                kernel.apply(&steps(&kernel.seen, &wanted, &rules, &[]));
            }
            prop_assert!(kernel.seen.has_table);
            for interface in kernel.seen.interfaces.iter().filter(|interface| interface.root != Root::Absent) {
                prop_assert_eq!(&interface.root, &Root::Ours);
                prop_assert_eq!(interface.classes.len(), classes.len() + 1);
                for wish in &classes {
                    let seen = interface.classes.iter().find(|class| class.minor == wish.minor).unwrap();
                    prop_assert_eq!(seen.rate_bits, as_shown(wish.rate_bits));
                    prop_assert!(wish.rate_bits - seen.rate_bits <= wish.rate_bits / 1_000);
                }
            }
        }
        // Half of them first.
        for most in [15 * 16, OTHERS] {
            let minors: Vec<u16> = (16..most).step_by(16).collect();
            kernel.apply(&taking_away(&kernel.seen, &minors));
            let left = kernel.seen.interfaces.iter().flat_map(|interface| &interface.classes);
            prop_assert!(left.clone().all(|class| class.minor >= most));
        }
        prop_assert!(kernel.rules.is_empty() && !kernel.seen.has_table);
        prop_assert!(kernel.seen.interfaces.iter().all(|interface| interface.root != Root::Ours));
    }

    #[test]
    fn whatever_a_tool_prints_is_read_without_harm(text in ".{0,400}", words in "(class|qdisc|htb|5154:|root|rate|Sent|[0-9a-fKMGT]{1,20}bit|[ \n:]){0,60}") {
        for text in [&text, &words] {
            parse::root(text);
            parse::has_table(text);
            prop_assert!(parse::classes(text).len() <= CLASSES_MAX + 1);
        }
    }
}

#[test]
fn the_handle_is_one_that_the_kernel_never_chooses() {
    // It makes up handles from 8000: on.
    assert!(u16::from_str_radix(HANDLE, 16).unwrap() < 0x8000);
}

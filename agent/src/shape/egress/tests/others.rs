//! What others do meanwhile: administrators, interfaces that come and go, an agent with another configuration.

use super::*;

#[test]
fn what_another_changed_shows_and_what_an_administrator_set_is_left_alone() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    // Somebody flushes all rules, as restarting nftables.service does.
    world.hand.kernel.lock().unwrap().seen.has_table = false;
    world.egress.tick();
    world.follow("a.service");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Unlimited);
    world.hand.kernel.lock().unwrap().seen.has_table = true;
    world.hand.kernel.lock().unwrap().seen.interfaces[0].root = Root::Foreign("fq 1:".into());
    world.egress.tick();
    world.follow("a.service");
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Absent);
    assert!(world.egress.why_not().is_some_and(|why| why.contains("eth0") && why.contains("administrator")));
    world.egress.write(&unit("a.service"), Value::Value(7_000_000)).unwrap();
    assert_eq!(world.kernel().seen.interfaces[0].root, Root::Foreign("fq 1:".into()));
    assert_eq!(world.kernel().seen.interfaces[1].classes[1].rate_bits, 7_000_000);
    // The end takes away what is ours and no more.
    world.egress.undo(&[the("a.service")]).unwrap();
    let kernel = world.kernel();
    assert_eq!(kernel.seen.interfaces[0].root, Root::Foreign("fq 1:".into()));
    assert_eq!(kernel.seen.interfaces[1].root, Root::Default);
}

#[test]
fn what_was_limited_is_let_go_whatever_is_configured_or_there_by_then() {
    for (named, foreign) in [(Some(vec!["gone0".to_owned()]), None), (Some(vec![]), None), (None, Some("eth1"))] {
        let mut world = World::new();
        let note = world.limit("a.service", 8_000_000);
        world.limit("b.service", 3_000_000);
        if let Some(name) = foreign {
            world.hand.kernel.lock().unwrap().interface(name).root = Root::Foreign("fq 1:".into());
        }
        let mut again = Egress::with(world.temp.path(), Box::new(world.hand.clone()), named.as_deref());
        assert!(again.why_not().is_some());
        // The other one's lease still runs, and nobody recalled this one.
        again.undo(&[(unit("a.service"), Some(note))]).unwrap();
        let minors: Vec<u16> = world.kernel().seen.interfaces[0].classes.iter().map(|class| class.minor).collect();
        assert_eq!(minors, [OTHERS, 32], "{named:?}");
        world.egress.undo(&[the("b.service")]).unwrap();
        assert_eq!(world.kernel().ours().count(), 0);
    }
}

#[test]
fn what_another_made_of_one_target_is_left_so_when_another_target_moves() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    world.limit("b.service", 3_000_000);
    let change = |world: &World, rate_bits: u64| {
        let mut kernel = world.hand.kernel.lock().unwrap();
        kernel
            .interface("eth0")
            .classes
            .iter_mut()
            .filter(|class| class.minor == 16)
            .for_each(|class| class.rate_bits = rate_bits);
    };
    change(&world, 50_000_000);
    world.restart("b.service");
    world.egress.tick();
    world.egress.write(&unit("b.service"), Value::Value(2_000_000)).unwrap();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(50_000_000));
    assert_eq!(world.egress.actual(&group("b.service")), Actual::Value(2_000_000));
    // Its own write has its way again.
    world.egress.write(&unit("a.service"), Value::Value(7_000_000)).unwrap();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(7_000_000));
    // Rules that were flushed come back with a write, and not by themselves.
    world.hand.kernel.lock().unwrap().seen.has_table = false;
    world.egress.tick();
    world.follow("a.service");
    world.restart("a.service");
    world.egress.tick();
    assert!(!world.kernel().seen.has_table);
    world.follow("a.service");
    world.egress.write(&unit("a.service"), Value::Value(6_000_000)).unwrap();
    assert_eq!(world.egress.actual(&group("a.service")), Actual::Value(6_000_000));
}

#[test]
fn an_interface_that_comes_later_is_limited_too_and_one_that_an_administrator_left_is_taken_up_again() {
    let mut world = World::new();
    world.limit("a.service", 8_000_000);
    fs::create_dir_all(world.temp.path().join("sys/class/net/eth2/device")).unwrap();
    let eth2 = SeenInterface { name: "eth2".into(), root: Root::Default, classes: Vec::new() };
    world.hand.kernel.lock().unwrap().seen.interfaces.push(eth2);
    world.egress.tick();
    assert_eq!(world.kernel().seen.interfaces[2].classes[1].rate_bits, 8_000_000);
    world.hand.kernel.lock().unwrap().seen.interfaces[2].root = Root::Foreign("fq 1:".into());
    world.egress.tick();
    world.follow("a.service");
    assert!(world.egress.why_not().is_some());
    world.hand.kernel.lock().unwrap().seen.interfaces[2].root = Root::Default;
    world.egress.looked_at_ms = 0;
    world.egress.tick();
    assert_eq!(world.egress.why_not(), None);
}

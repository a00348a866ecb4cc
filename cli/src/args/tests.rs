#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use clap::CommandFactory;
use clap::error::ErrorKind;
use quotary_common::units::Class;

use super::*;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["quotary"], line].concat())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn run_takes_everything_after_the_dashes_as_the_command() {
    let cli = parse(&["run", "--cpu", "500m", "--memory", "256M", "--", "make", "--json", "-j4", "--", "x"]).unwrap();
    assert!(!cli.json);
    let Command::Run(run) = cli.command else { panic!("not run") };
    assert_eq!(run.command, ["make", "--json", "-j4", "--", "x"]);
    assert_eq!(run.amounts.resources().cpu_millicores, Some(500));
    assert_eq!(run.amounts.resources().memory_bytes, Some(256 << 20));
    assert_eq!((run.class, run.if_unavailable, run.wait_for), (Class::Burstable, Unavailable::Run, 30_000));
}

#[test]
fn run_needs_a_command_and_well_formed_amounts() {
    for bad in [
        &["run"][..],
        &["run", "--"],
        &["run", "make"],
        &["run", "--cpu", "0", "--", "x"],
        &["run", "--class", "gold", "--", "x"],
        &["run", "--if-unavailable", "maybe", "--", "x"],
        &["run", "--wait-for", "1h", "--", "x"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn json_may_stand_anywhere() {
    for line in [&["--json", "host", "list"][..], &["host", "--json", "list"], &["host", "list", "--json"]] {
        assert!(parse(line).unwrap().json, "{line:?}");
    }
}

#[test]
fn login_takes_a_file_or_an_address_with_a_pin() {
    let pin = "a".repeat(64);
    assert!(parse(&["login", "--from", "f"]).is_ok());
    assert!(parse(&["login", "--verifier", "https://v", "--ca-pin", &pin]).is_ok());
    assert!(parse(&["login"]).is_err());
    assert!(parse(&["login", "--verifier", "https://v"]).is_err());
    assert!(parse(&["login", "--from", "f", "--ca-pin", &pin]).is_err());
    assert!(parse(&["login", "--verifier", "https://v", "--ca-pin", "abc"]).is_err());
}

#[test]
fn tokens_need_a_zone_or_rights() {
    let join = parse(&["token", "join", "--zone", "lab", "--label", "a=b", "--label", "c=d"]).unwrap();
    let Command::Token(TokenCommand::Join(join)) = join.command else { panic!("not join") };
    assert_eq!((join.labels.len(), join.made.valid_for), (2, 3_600_000));
    assert!(parse(&["token", "join"]).is_err());
    assert!(parse(&["token", "operator", "--name", "x"]).is_err());
    assert!(parse(&["token", "operator", "--name", "x", "--right", "host"]).is_err());
    assert!(parse(&["token", "operator", "--name", "x", "--right", "read", "--right", "audit"]).is_ok());
}

#[test]
fn help_teaches_examples_and_exit_codes_and_hides_the_inner_half() {
    let help = parse(&["--help"]).unwrap_err();
    assert_eq!(help.kind(), ErrorKind::DisplayHelp);
    let text = help.to_string();
    assert!(text.contains("Examples:") && text.contains("64  the command line is wrong"), "{text}");
    assert!(!text.contains("__enter"));
}

#[test]
fn events_may_be_followed_from_any_leaf() {
    let Command::Events(events) = parse(&["events", "--from", "7", "--follow"]).unwrap().command else { panic!() };
    assert_eq!((events.from, events.follow), (Some(7), true));
    assert!(parse(&["events", "--from", "-1"]).is_err());
}

#[test]
fn a_gauge_is_a_whole_number_within_bounds_and_one_at_least_is_stated() {
    let line = ["gauge", "--grant", "g-1", "--requests-per-minute", "0", "--latency-us", "86400000000"];
    let Command::Gauge(gauge) = parse(&line).unwrap().command else { panic!("not gauge") };
    assert_eq!((gauge.requests_per_minute, gauge.errors_per_minute), (Some(0), None));
    assert_eq!((gauge.latency_us, gauge.grant.as_deref()), (Some(86_400_000_000), Some("g-1")));
    for bad in [
        &["gauge", "--grant", "g-1"][..],
        &["gauge", "--grant", "g-1", "--requests-per-minute", "1.5"],
        &["gauge", "--grant", "g-1", "--requests-per-minute", "-1"],
        &["gauge", "--grant", "g-1", "--errors-per-minute", "1000000000001"],
        &["gauge", "--grant", "g-1", "--latency-us", "86400000001"],
        &["gauge", "--grant", "g-1", "--queue-length", "7"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}

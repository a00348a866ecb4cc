//! Who is told, by which way, and who is not.

use super::*;

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

#[tokio::test]
async fn a_named_command_gets_what_is_told_and_no_other_program_runs() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("told");
    let tee = vec!["/usr/bin/tee".to_owned(), out.to_str().unwrap().to_owned()];
    let (teller, tell) = Teller::new(Vec::new(), [(word("page"), tee)].into());
    let stop = CancellationToken::new();
    let running = tokio::spawn(teller.run(stop.clone()));
    let told = |command: &str| Told { body: "{\"a\":1}".to_owned(), webhook: None, command: Some(word(command)) };
    tell.tell(told("rm"));
    tell.tell(told("page"));
    let begun = std::time::Instant::now();
    while std::fs::read_to_string(&out).unwrap_or_default() != "{\"a\":1}" {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody was told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_command_that_fails_says_so_and_one_that_is_not_there_too() {
    assert!(matches!(command::run(&["/bin/false".to_owned()], "x").await, Err(command::CommandError::Status(_))));
    assert!(matches!(command::run(&["/nowhere/x".to_owned()], "x").await, Err(command::CommandError::Start(_))));
    assert!(matches!(command::run(&[], "x").await, Err(command::CommandError::Empty)));
    command::run(&["/bin/true".to_owned()], &"x".repeat(1 << 20)).await.unwrap();
}

#[test]
fn an_address_that_the_configuration_does_not_have_is_not_posted_to() {
    let webhook = |url: &str| {
        let kinds = quotary_common::wire::EventKind::ALL.iter().copied().collect();
        Webhook::new(Receiver::parse(url).unwrap(), kinds, b"0123456789abcdef", &[]).unwrap()
    };
    let (teller, _tell) = Teller::new(vec![webhook("http://127.0.0.1:9/here")], BTreeMap::new());
    let told = |url: &str| Told { body: String::new(), webhook: Some(url.to_owned()), command: None };
    assert_eq!(teller.ways(&told("http://127.0.0.1:9/here")).len(), 1);
    assert_eq!(teller.ways(&told("http://127.0.0.1:9/elsewhere")).len(), 0);
    assert_eq!(teller.ways(&told("no address")).len(), 0);
}

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq)]
struct Sheep {
    name: String,
    legs: u64,
    born_ms: Option<u64>,
    tags: Vec<String>,
    wool: Option<(bool, u64)>,
}

fn sheep(text: &str) -> Result<Sheep, Faults> {
    read(text.as_bytes(), |root| {
        let name = root.text("name", 8);
        let name = root.required("name", name);
        let legs = root.integer("legs", 1..=4);
        let born_ms = root.instant_ms("born");
        let tags = root.texts("tags", 3, 8).into_iter().map(|item| item.text.to_owned()).collect();
        let wool = root.table("wool").and_then(|mut wool| {
            let is_soft = wool.boolean("soft");
            let is_soft = wool.required("soft", is_soft);
            let colour = wool.word("colour", &[("white", 1), ("black", 2)]);
            Some((is_soft?, colour.unwrap_or(1)))
        });
        for mut lamb in root.tables("lambs", 2) {
            lamb.text("name", 8);
        }
        root.counts("teeth", 2, 1..=32);
        Some(Sheep { name: name?.to_owned(), legs: legs.unwrap_or(4), born_ms, tags, wool })
    })
}

fn told(text: &str) -> Vec<(usize, String, String)> {
    let faults = sheep(text).unwrap_err().0;
    faults.into_iter().map(|fault| (fault.line, fault.field, fault.reason)).collect()
}

#[test]
fn a_document_without_fault_is_read() {
    let text =
        "name = 'Dolly'\nborn = 1996-07-05T17:00:00Z\ntags = ['a', 'b']\n[wool]\nsoft = true\ncolour = 'black'\n";
    let expected = Sheep {
        name: "Dolly".to_owned(),
        legs: 4,
        born_ms: parse_rfc3339("1996-07-05T17:00:00Z"),
        tags: vec!["a".to_owned(), "b".to_owned()],
        wool: Some((true, 2)),
    };
    assert_eq!(sheep(text).unwrap(), expected);
}

#[test]
fn all_faults_are_told_at_once_with_line_field_and_reason() {
    let text = "legs = 5\nborn = 'today'\nhorns = 2\ntags = ['a', 'a', 3]\n\n[wool]\nsoft = 'very'\ncolour = 'red'\n\
                [[lambs]]\nname = 'far too long a name'\n[[lambs]]\nage = 1\n[teeth]\nmilk = 99\n";
    let fault = |line: usize, field: &str, reason: &str| (line, field.to_owned(), reason.to_owned());
    assert_eq!(
        told(text),
        [
            fault(1, "legs", "must be a whole number from 1 to 4, not 5"),
            fault(1, "name", "is missing"),
            fault(2, "born", "must be an instant with seconds and offset, like 2026-11-22T07:00:00Z"),
            fault(3, "horns", "is not a field here: known are born, lambs, legs, name, tags, teeth, wool"),
            fault(4, "tags[1]", "`a` stands there twice"),
            fault(4, "tags[2]", "must be a text, not a whole number"),
            fault(7, "wool.soft", "must be true or false, not a text"),
            fault(8, "wool.colour", "must be one of white, black, not `red`"),
            fault(10, "lambs[0].name", "19 bytes, at most 8 are allowed"),
            fault(12, "lambs[1].age", "is not a field here: known are name"),
            fault(14, "teeth.milk", "must be a whole number from 1 to 32"),
        ]
    );
}

#[test]
fn a_broken_form_is_told_with_its_line_and_a_key_given_twice_too() {
    assert_eq!(told("name = 'a'\nlegs = \n")[0].0, 2);
    let twice = told("name = 'a'\nname = 'b'\n");
    assert_eq!((twice.len(), twice[0].0), (1, 2));
    assert!(twice[0].2.contains("duplicate"), "{twice:?}");
}

#[test]
fn characters_that_people_do_not_see_are_refused_in_bytes_and_in_escapes() {
    for hidden in ["\u{202e}", "\u{200b}", "\t", "\r", "\u{2028}", "\u{feff}", "\0", "\u{1b}", "\u{e0041}"] {
        let told = told(&format!("name = 'a'\n# {hidden}\n"));
        assert_eq!((told.len(), told[0].0), (1, 2), "{hidden:?}");
    }
    assert_eq!(told("name = \"a\\u202Eb\"\n")[0].2, "has a character that people do not see");
    assert_eq!(told("name = \"a\\nb\"\n")[0].2, "has a character that people do not see");
}

#[test]
fn bounds_hold_before_and_after_parsing() {
    let large = "#".repeat(DOCUMENT_BYTES_MAX + 1);
    assert!(told(&large)[0].2.contains("at most"));
    let many: String = (0..2 * FAULTS_MAX).map(|n| format!("x{n} = 1\n")).collect();
    assert_eq!(told(&many).len(), FAULTS_MAX + 1);
    // A nest deeper than any document of ours is refused, not a crash.
    assert!(!told(&format!("name = {}", "[".repeat(40_000))).is_empty());
    assert!(read(b"\xff\xfe", |_| Some(())).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z=\\[\\]'\"\\n0-9. {}#-]{0,200}") {
        let _ = sheep(&text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, |root| root.text("name", 8).map(str::to_owned));
    }
}

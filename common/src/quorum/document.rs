//! TOML documents, read so that all their faults are told at once: each with line, field and reason.
//!
//! [`read`] opens a document and gives its [`Table`]; every field is asked for by name, and what was not asked for is
//! an unknown field: a reader therefore asks for all fields of a table before it gives up on one. It goes on after a
//! fault, so that whoever wrote the document corrects it once, not ten times.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::cbor::Text;
use crate::id::Digest;
use crate::instant::parse_rfc3339;
use crate::limits::{DOCUMENT_BYTES_MAX, FAULTS_MAX};

/// One fault of a document. Who read the file adds its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}: {field}: {reason}")]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which line, from 1.
    pub line: usize,
    /// Which field, as a path from the document's root: `people[2].keys[0].key`; `document` for the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// All faults of one document, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// The one fault of a document that is refused as a whole.
    pub fn one(line: usize, field: &str, reason: impl Into<String>) -> Self {
        Self(vec![Fault { line, field: field.to_owned(), reason: reason.into() }])
    }
}

/// A document's identity: SHA-256 of its exact bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(&[bytes])
}

/// The first character that a person who reads the text would not see as it is: a control character other than the line
/// feed, or one that reorders, joins or hides others (so that no pager shows another text than is signed).
pub fn unreadable(text: &str) -> Option<(usize, char)> {
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}')
            || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
            || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let (at, c) = text.char_indices().find(|(_, c)| hidden(*c))?;
    Some((1 + text[..at].matches('\n').count(), c))
}

/// Reads a document of at most [`DOCUMENT_BYTES_MAX`] bytes with `reader`, which takes what it knows from the root
/// table and returns `None` when it could not.
///
/// # Errors
/// [`Faults`]: those of the form, or else all that the reader and its tables found.
pub fn read<T>(bytes: &[u8], reader: impl FnOnce(&mut Table<'_>) -> Option<T>) -> Result<T, Faults> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let reason = format!("{} bytes, at most {DOCUMENT_BYTES_MAX} are allowed", bytes.len());
        return Err(Faults::one(1, "document", reason));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Faults::one(line, "document", "is not UTF-8 text")
    })?;
    if let Some((line, c)) = unreadable(text) {
        let reason =
            format!("has the character U+{:04X}, which people do not see: use spaces and line feeds", c as u32);
        return Err(Faults::one(line, "document", reason));
    }
    let sink = Sink::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        sink.add(at, "document", error.message());
    }
    // What a broken form left over would only give faults that follow from it.
    if sink.is_empty() {
        let mut table = Table::new(root.get_ref(), String::new(), 0, &sink);
        let value = reader(&mut table);
        drop(table);
        if sink.is_empty()
            && let Some(value) = value
        {
            return Ok(value);
        }
    }
    Err(sink.into_faults())
}

/// Where faults are gathered, with what is needed to tell their lines.
struct Sink {
    line_starts: Vec<usize>,
    faults: RefCell<(Vec<Fault>, usize)>,
}

impl Sink {
    fn new(text: &str) -> Self {
        let after_feeds = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { line_starts: std::iter::once(0).chain(after_feeds).collect(), faults: RefCell::default() }
    }
    fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }
    fn add(&self, at: usize, field: &str, reason: impl Into<String>) {
        let mut faults = self.faults.borrow_mut();
        if faults.0.len() < FAULTS_MAX {
            let field = Text::<256>::lossy(field).to_string();
            let reason = Text::<512>::lossy(&reason.into().replace('\n', " ")).to_string();
            faults.0.push(Fault { line: self.line(at), field, reason });
        } else {
            faults.1 += 1;
        }
    }
    fn is_empty(&self) -> bool {
        self.faults.borrow().0.is_empty()
    }
    fn into_faults(self) -> Faults {
        let (mut faults, more) = self.faults.into_inner();
        faults.sort();
        if faults.is_empty() {
            faults = Faults::one(1, "document", "is not what it should be").0;
        }
        if more > 0 {
            let line = faults.last().map_or(1, |fault| fault.line);
            let reason = format!("{more} more faults are not told");
            faults.push(Fault { line, field: "document".to_owned(), reason });
        }
        Faults(faults)
    }
}

/// A table of a document that is being read. When it is dropped, the fields that nobody asked for are faults.
pub struct Table<'d> {
    fields: &'d DeTable<'d>,
    path: String,
    at: usize,
    asked: BTreeSet<&'static str>,
    sink: &'d Sink,
    is_open: bool,
}

/// A text of a list, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListItem<'d> {
    /// The text.
    pub text: &'d str,
    place: usize,
    field: String,
}

impl<'d> Table<'d> {
    fn new(fields: &'d DeTable<'d>, path: String, at: usize, sink: &'d Sink) -> Self {
        Self { fields, path, at, asked: BTreeSet::new(), sink, is_open: false }
    }

    /// The path of a field of this table from the root.
    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn find(&mut self, field: &'static str) -> Option<(usize, &'d DeValue<'d>)> {
        self.asked.insert(field);
        self.fields.get(field).map(|value| (value.span().start, value.get_ref()))
    }

    /// Tells that a field is not what it should be; an absent field's fault stands at the table's line.
    pub fn fault(&self, field: &str, reason: impl Into<String>) {
        let at = self.fields.get(field).map_or(self.at, |value| value.span().start);
        self.sink.add(at, &self.path_of(field), reason);
    }

    /// Tells that an item of a list is not what it should be.
    pub fn fault_of(&self, item: &ListItem<'_>, reason: impl Into<String>) {
        self.sink.add(item.place, &item.field, reason);
    }

    /// Tells a fault of the table as a whole.
    pub fn fault_here(&self, reason: impl Into<String>) {
        self.sink.add(self.at, if self.path.is_empty() { "document" } else { &self.path }, reason);
    }

    fn wrong(&self, field: &str, expected: &str, found: &DeValue<'_>) {
        self.fault(field, format!("must be {expected}, not {}", named(found)));
    }

    /// Whether the field is there, whatever it is. It counts as asked for.
    pub fn has(&mut self, field: &'static str) -> bool {
        self.find(field).is_some()
    }

    /// Passes a value on, or tells that the field is missing if it is not there at all.
    pub fn required<T>(&self, field: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && self.fields.get(field).is_none() {
            self.fault(field, "is missing");
        }
        value
    }

    /// A text of at most `bytes_max` bytes without control characters, if it is there.
    pub fn text(&mut self, field: &'static str, bytes_max: usize) -> Option<&'d str> {
        let (_, value) = self.find(field)?;
        let Some(text) = value.as_str() else {
            self.wrong(field, "a text", value);
            return None;
        };
        match text_fault(text, bytes_max) {
            Some(reason) => {
                self.fault(field, reason);
                None
            }
            None => Some(text),
        }
    }

    /// A whole number within `range`, if it is there.
    pub fn integer(&mut self, field: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let (_, value) = self.find(field)?;
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(digits) = value.as_integer() else {
            self.wrong(field, &expected, value);
            return None;
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(field, format!("must be {expected}, not {digits}"));
        }
        number
    }

    /// Yes or no, if it is there.
    pub fn boolean(&mut self, field: &'static str) -> Option<bool> {
        let (_, value) = self.find(field)?;
        if value.as_bool().is_none() {
            self.wrong(field, "true or false", value);
        }
        value.as_bool()
    }

    /// An instant with its offset from UTC, as TOML has it or as text (RFC 3339), in Unix ms, if it is there.
    pub fn instant_ms(&mut self, field: &'static str) -> Option<u64> {
        let (_, value) = self.find(field)?;
        let text: Cow<'_, str> = match value {
            DeValue::Datetime(instant) => instant.to_string().into(),
            DeValue::String(text) => text.as_ref().into(),
            _ => {
                self.wrong(field, "an instant like 2026-11-22T07:00:00Z", value);
                return None;
            }
        };
        let instant_ms = parse_rfc3339(&text);
        if instant_ms.is_none() {
            self.fault(field, "must be an instant with seconds and offset, like 2026-11-22T07:00:00Z");
        }
        instant_ms
    }

    /// One of several words, if it is there.
    pub fn word<T: Copy>(&mut self, field: &'static str, words: &[(&str, T)]) -> Option<T> {
        let (_, value) = self.find(field)?;
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let expected = format!("one of {}", words.join(", "));
            match value.as_str() {
                Some(text) => self.fault(field, format!("must be {expected}, not `{text}`")),
                None => self.wrong(field, &expected, value),
            }
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A list of at most `items_max` different texts, each of at most `bytes_max` bytes; empty when absent.
    pub fn texts(&mut self, field: &'static str, items_max: usize, bytes_max: usize) -> Vec<ListItem<'d>> {
        let Some((_, value)) = self.find(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong(field, "a list of texts", value);
            return Vec::new();
        };
        if list.len() > items_max {
            self.fault(field, format!("{} items, at most {items_max} are allowed", list.len()));
        }
        let mut found: Vec<ListItem<'d>> = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, item) in list.iter().take(items_max).enumerate() {
            let (place, path) = (item.span().start, format!("{}[{index}]", self.path_of(field)));
            match item.get_ref().as_str() {
                None => self.sink.add(place, &path, format!("must be a text, not {}", named(item.get_ref()))),
                Some(text) => match text_fault(text, bytes_max) {
                    Some(reason) => self.sink.add(place, &path, reason),
                    None if !seen.insert(text) => self.sink.add(place, &path, format!("`{text}` stands there twice")),
                    None => found.push(ListItem { text, place, field: path }),
                },
            }
        }
        found
    }

    /// A list of at most `items_max` whole numbers, each within `range`; empty when absent.
    pub fn integers(&mut self, field: &'static str, items_max: usize, range: RangeInclusive<u64>) -> Vec<u64> {
        let Some((_, value)) = self.find(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong(field, "a list of whole numbers", value);
            return Vec::new();
        };
        if list.len() > items_max {
            self.fault(field, format!("{} items, at most {items_max} are allowed", list.len()));
        }
        let mut found = Vec::new();
        for (index, item) in list.iter().take(items_max).enumerate() {
            let digits = item.get_ref().as_integer();
            let number = digits.and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok());
            match number.filter(|number| range.contains(number)) {
                Some(number) => found.push(number),
                None => {
                    let path = format!("{}[{index}]", self.path_of(field));
                    let reason = format!("must be a whole number from {} to {}", range.start(), range.end());
                    self.sink.add(item.span().start, &path, reason);
                }
            }
        }
        found
    }

    /// A table, if it is there.
    pub fn table(&mut self, field: &'static str) -> Option<Table<'d>> {
        let (at, value) = self.find(field)?;
        let DeValue::Table(fields) = value else {
            self.wrong(field, "a table", value);
            return None;
        };
        Some(Table::new(fields, self.path_of(field), at, self.sink))
    }

    /// An array of at most `tables_max` tables (`[[field]]`); empty when absent.
    pub fn tables(&mut self, field: &'static str, tables_max: usize) -> Vec<Table<'d>> {
        let Some((_, value)) = self.find(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong(field, "an array of tables", value);
            return Vec::new();
        };
        if list.len() > tables_max {
            self.fault(field, format!("{} tables, at most {tables_max} are allowed", list.len()));
        }
        let mut found = Vec::new();
        for (index, item) in list.iter().take(tables_max).enumerate() {
            let (at, path) = (item.span().start, format!("{}[{index}]", self.path_of(field)));
            match item.get_ref() {
                DeValue::Table(fields) => found.push(Table::new(fields, path, at, self.sink)),
                other => self.sink.add(at, &path, format!("must be a table, not {}", named(other))),
            }
        }
        found
    }

    /// Numbers by names that the document chooses (`{ security = 1 }`): at most `items_max`; empty when absent.
    pub fn counts(
        &mut self,
        field: &'static str,
        items_max: usize,
        range: RangeInclusive<u64>,
    ) -> Vec<(ListItem<'d>, u64)> {
        let mut found = Vec::new();
        let Some(mut table) = self.table(field) else { return found };
        table.is_open = true;
        if table.fields.len() > items_max {
            table.fault_here(format!("{} entries, at most {items_max} are allowed", table.fields.len()));
        }
        for (name, value) in table.fields.iter().take(items_max) {
            let item =
                ListItem { text: name.get_ref(), place: name.span().start, field: table.path_of(name.get_ref()) };
            let number = value.get_ref().as_integer();
            let number = number.and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok());
            match number.filter(|number| range.contains(number)) {
                Some(number) => found.push((item, number)),
                None => {
                    table.fault_of(&item, format!("must be a whole number from {} to {}", range.start(), range.end()))
                }
            }
        }
        found
    }

    /// Tables by names that the document chooses (`[field.NAME]`): at most `tables_max`; empty when absent.
    pub fn named_tables(&mut self, field: &'static str, tables_max: usize) -> Vec<(ListItem<'d>, Table<'d>)> {
        let mut found = Vec::new();
        let Some(mut table) = self.table(field) else { return found };
        table.is_open = true;
        if table.fields.len() > tables_max {
            table.fault_here(format!("{} tables, at most {tables_max} are allowed", table.fields.len()));
        }
        for (name, value) in table.fields.iter().take(tables_max) {
            let path = table.path_of(name.get_ref());
            let item = ListItem { text: name.get_ref(), place: name.span().start, field: path.clone() };
            match value.get_ref() {
                DeValue::Table(fields) => found.push((item, Table::new(fields, path, value.span().start, self.sink))),
                other => table.fault_of(&item, format!("must be a table, not {}", named(other))),
            }
        }
        found
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        if self.is_open {
            return;
        }
        for name in self.fields.keys().filter(|name| !self.asked.contains(name.get_ref().as_ref())) {
            let known: Vec<&str> = self.asked.iter().copied().collect();
            let reason = format!("is not a field here: known are {}", known.join(", "));
            self.sink.add(name.span().start, &self.path_of(name.get_ref()), reason);
        }
    }
}

/// What a value is, with its article.
fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "an instant",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn text_fault(text: &str, bytes_max: usize) -> Option<String> {
    if text.is_empty() {
        return Some("must not be empty".to_owned());
    }
    if text.len() > bytes_max {
        return Some(format!("{} bytes, at most {bytes_max} are allowed", text.len()));
    }
    // Escapes in TOML bring back what the document's own bytes may not have.
    let has_hidden = unreadable(text).is_some() || text.contains('\n');
    has_hidden.then(|| "has a character that people do not see".to_owned())
}

#[cfg(test)]
mod tests;

//! The text of a change: the very bytes that people read and sign.
//!
//! One line for each field, `key: value`, in a fixed order; then the document. A text is read by writing what was
//! understood again: bytes that differ are refused, so one change has one text, and nothing can hide in it.

use std::fmt::Write as _;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::covers::Cover;
use super::criticality::Criticality;
use super::document::unreadable;
use super::roster::{VERIFIER, Word, is_word};
use super::ssh::Hashes;
use crate::envelope::Name;
use crate::id::{ChangeId, DeploymentId, Digest};
use crate::instant::{parse_rfc3339, rfc3339};
use crate::limits::{
    CHANGE_BYTES_MAX, CHANGE_LINE_BYTES_MAX, CHANGE_LINES_MAX, COVERS_MAX, DOCUMENT_BYTES_MAX, INPUTS_MAX,
};
use crate::plan::OnPressure;
use crate::units::{ResourceKind, Resources};

/// The first line of every text.
const HEAD: &str = "quotary-change-v1";
/// The last instant that a text can name: the end of the year 9999.
const INSTANT_MS_MAX: u64 = 253_402_300_799_999;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A policy that was not there.
    #[n(0)]
    CreatePolicy,
    /// Another version of a policy.
    #[n(1)]
    AlterPolicy,
    /// No such policy any more.
    #[n(2)]
    RevokePolicy,
    /// Another roster.
    #[n(3)]
    Roster,
    /// Other quorum rules.
    #[n(4)]
    Rules,
}

impl Kind {
    const NAMES: [(&'static str, Self); 5] = [
        ("create policy", Self::CreatePolicy),
        ("alter policy", Self::AlterPolicy),
        ("revoke policy", Self::RevokePolicy),
        ("alter roster", Self::Roster),
        ("alter rules", Self::Rules),
    ];

    /// The words for it: `create policy`, `alter policy`, `revoke policy`, `alter roster`, `alter rules`.
    pub fn name(self) -> &'static str {
        word_of(&Self::NAMES, self)
    }

    /// Whether it changes who decides.
    pub const fn is_of_authority(self) -> bool {
        matches!(self, Self::Roster | Self::Rules)
    }
}

/// By which way it is to come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// The quorum of its criticality.
    Quorum,
    /// An emergency: few people at once, ends by itself, reviewed afterwards.
    BreakGlass,
    /// One operator: hold where we are, ends by itself, reviewed afterwards.
    Freeze,
}

impl Way {
    const NAMES: [(&'static str, Self); 3] =
        [("quorum", Self::Quorum), ("break-glass", Self::BreakGlass), ("freeze", Self::Freeze)];

    /// The word for it: `quorum`, `break-glass`, `freeze`.
    pub fn name(self) -> &'static str {
        word_of(&Self::NAMES, self)
    }
    /// The way of a word.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(word, _)| *word == name).map(|(_, way)| *way)
    }
}

/// Something beside the document that is applied with it, by its digest: a saved plan of a provisioner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// What it is called.
    pub name: Name,
}

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub deployment: DeploymentId,
    /// Which change.
    pub id: ChangeId,
    /// What is asked for.
    pub kind: Kind,
    /// The policy's name; for roster and rules `roster` and `rules`.
    pub name: Word,
    /// By which way.
    pub way: Way,
    /// Who asked first.
    pub requester: Word,
    /// Who edited it last.
    pub editor: Word,
    /// Who applies it: a person, or `verifier`.
    pub applier: Word,
    /// The highest of the old document's, the new one's, and what the difference implies.
    pub criticality: Criticality,
    /// The document that it takes the place of.
    pub base: Option<Digest>,
    /// The roster in force when it was proposed or edited.
    pub roster: Digest,
    /// The rules in force then.
    pub rules: Digest,
    /// When that was, Unix ms.
    pub proposed_ms: u64,
    /// When it is to be in force, Unix ms.
    pub effective_ms: u64,
    /// Until when it may be approved, Unix ms.
    pub approve_by_ms: u64,
    /// Until when it may be applied, Unix ms.
    pub apply_by_ms: u64,
    /// When it ends by itself, Unix ms: only by break-glass and freeze, and always there.
    pub until_ms: Option<u64>,
    /// How fast a plan may move each resource, units per second; absent: the planner's own bound.
    pub slew: Resources,
    /// What pressure does to its plans.
    pub on_pressure: OnPressure,
    /// Random, so that no two texts are the same.
    pub nonce: [u8; 16],
    /// What is applied with it.
    pub inputs: Vec<Input>,
    /// What its plans may touch, and between which values.
    pub covers: Vec<Cover>,
    /// The document's exact bytes; empty when a policy is revoked.
    pub document: String,
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// Too many bytes.
    #[error("{0} bytes, at most {CHANGE_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Too many lines, or too long ones.
    #[error("line {0} is too long, or one too many")]
    Line(usize),
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// A character that no pager shows as it is.
    #[error("line {0} has the character U+{1:04X}, which people do not see")]
    Hidden(usize, u32),
    /// A line is not what should stand there.
    #[error("line {line}: {expected}")]
    Expected {
        /// Which line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Reads, but is not the text that is written of it.
    #[error("is not written as a text is: writing it again gives other bytes")]
    NotCanonical,
    /// Says what no change may say.
    #[error("{0}")]
    Sense(&'static str),
}

/// A change with its text: made only by [`ChangeText::render`] and [`ChangeText::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeText {
    bytes: Vec<u8>,
    hashes: Hashes,
    change: Change,
}

impl ChangeText {
    /// Writes the text of a change.
    ///
    /// # Errors
    /// [`TextFault`] when it would not read again, or says what no change may say.
    pub fn render(change: &Change) -> Result<Self, TextFault> {
        let text = Self::parse(write(change).as_bytes())?;
        // A value that reads as another one must not be signed as if it were this one.
        if text.change == *change { Ok(text) } else { Err(TextFault::NotCanonical) }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`TextFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TextFault> {
        if bytes.len() > CHANGE_BYTES_MAX {
            return Err(TextFault::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TextFault::NotText)?;
        if let Some((line, c)) = unreadable(text) {
            return Err(TextFault::Hidden(line, c as u32));
        }
        let change = read(text)?;
        make_sense(&change)?;
        if write(&change) != text {
            return Err(TextFault::NotCanonical);
        }
        Ok(Self { bytes: bytes.to_vec(), hashes: Hashes::of(bytes), change })
    }

    /// The bytes that are signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.hashes.sha256()
    }
    /// Its digests, for signature checks.
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }
    /// What it says.
    pub fn change(&self) -> &Change {
        &self.change
    }
}

fn write(change: &Change) -> String {
    let mut text = format!("{HEAD}\n");
    let digest = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.hex());
    for (key, value) in [
        ("deployment", change.deployment.hex()),
        ("change", change.id.hex()),
        ("kind", word_of(&Kind::NAMES, change.kind).to_owned()),
        ("name", change.name.to_string()),
        ("by", word_of(&Way::NAMES, change.way).to_owned()),
        ("requester", change.requester.to_string()),
        ("editor", change.editor.to_string()),
        ("applier", change.applier.to_string()),
        ("criticality", change.criticality.name().to_owned()),
        ("base", digest(change.base)),
        ("roster", change.roster.hex()),
        ("rules", change.rules.hex()),
        ("proposed", rfc3339(change.proposed_ms)),
        ("effective", rfc3339(change.effective_ms)),
        ("approve-by", rfc3339(change.approve_by_ms)),
        ("apply-by", rfc3339(change.apply_by_ms)),
        ("until", change.until_ms.map_or_else(|| "none".to_owned(), rfc3339)),
        ("on-pressure", word_of(&PRESSURE, change.on_pressure).to_owned()),
        ("nonce", data_encoding::HEXLOWER.encode(&change.nonce)),
    ] {
        let _ = writeln!(text, "{key}: {value}");
    }
    for kind in ResourceKind::ALL {
        if let Some(amount) = change.slew.get(kind) {
            let _ = writeln!(text, "slew: {} {amount}", kind.unit_name());
        }
    }
    for input in &change.inputs {
        let _ = writeln!(text, "input: {} {}", input.digest.hex(), input.name);
    }
    for cover in &change.covers {
        let _ = writeln!(text, "cover: {cover}");
    }
    let _ = write!(text, "document: {}\n{}", change.document.len(), change.document);
    text
}

const PRESSURE: [(&str, OnPressure); 2] = [("hold", OnPressure::Hold), ("proceed", OnPressure::Proceed)];
fn word_of<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, other)| *other == meaning).map_or("", |(word, _)| *word)
}

/// The lines that are not read yet.
struct Lines<'t> {
    rest: &'t str,
    number: usize,
}

impl<'t> Lines<'t> {
    fn expected<T>(&self, expected: &'static str) -> Result<T, TextFault> {
        Err(TextFault::Expected { line: self.number, expected })
    }

    fn next(&mut self) -> Result<&'t str, TextFault> {
        self.number += 1;
        let line = match self.rest.split_once('\n') {
            Some((line, rest)) => {
                self.rest = rest;
                line
            }
            None => return self.expected("a line that ends with a line feed"),
        };
        let is_allowed = line.len() <= CHANGE_LINE_BYTES_MAX && self.number <= CHANGE_LINES_MAX;
        if is_allowed { Ok(line) } else { Err(TextFault::Line(self.number)) }
    }

    /// The value of the next line, which must have this key.
    fn value(&mut self, key: &'static str) -> Result<&'t str, TextFault> {
        let line = self.next()?;
        match line.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")) {
            Some(value) => Ok(value),
            None => self.expected(key),
        }
    }

    /// The value of the next line if it has this key; otherwise nothing is read.
    fn if_there(&mut self, key: &'static str) -> Result<Option<&'t str>, TextFault> {
        let is_there = self.rest.strip_prefix(key).is_some_and(|rest| rest.starts_with(": "));
        if is_there { self.value(key).map(Some) } else { Ok(None) }
    }

    fn parsed<T: std::str::FromStr>(&mut self, key: &'static str) -> Result<T, TextFault> {
        self.value(key)?.parse().or_else(|_| self.expected(key))
    }

    fn word(&mut self, key: &'static str) -> Result<Word, TextFault> {
        let value = self.value(key)?;
        Word::new(value).filter(|word| is_word(word.as_str())).map_or_else(|| self.expected(key), Ok)
    }

    fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<T, TextFault> {
        let value = self.value(key)?;
        let found = words.iter().find(|(word, _)| *word == value);
        found.map_or_else(|| self.expected(key), |(_, meaning)| Ok(*meaning))
    }

    fn instant(&mut self, key: &'static str) -> Result<u64, TextFault> {
        parse_rfc3339(self.value(key)?).map_or_else(|| self.expected(key), Ok)
    }

    fn if_any<T>(&self, value: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, TextFault> {
        if value == "none" {
            return Ok(None);
        }
        read(value).map_or_else(|| self.expected("a value, or none"), |value| Ok(Some(value)))
    }
}

fn read(text: &str) -> Result<Change, TextFault> {
    let mut lines = Lines { rest: text, number: 0 };
    if lines.next()? != HEAD {
        return lines.expected(HEAD);
    }
    // In the order of the lines: each of these reads one.
    let deployment = lines.parsed("deployment")?;
    let id = lines.parsed("change")?;
    let kind = lines.one_of("kind", &Kind::NAMES)?;
    let name = lines.word("name")?;
    let way = lines.one_of("by", &Way::NAMES)?;
    let requester = lines.word("requester")?;
    let editor = lines.word("editor")?;
    let applier = lines.word("applier")?;
    let criticality = lines.one_of("criticality", &Criticality::ALL.map(|level| (level.name(), level)))?;
    let base = lines.value("base")?;
    let base = lines.if_any(base, |value| value.parse().ok())?;
    let roster = lines.parsed("roster")?;
    let rules = lines.parsed("rules")?;
    let proposed_ms = lines.instant("proposed")?;
    let effective_ms = lines.instant("effective")?;
    let approve_by_ms = lines.instant("approve-by")?;
    let apply_by_ms = lines.instant("apply-by")?;
    let until = lines.value("until")?;
    let until_ms = lines.if_any(until, parse_rfc3339)?;
    let on_pressure = lines.one_of("on-pressure", &PRESSURE)?;
    let nonce = data_encoding::HEXLOWER.decode(lines.value("nonce")?.as_bytes()).ok();
    let nonce = nonce.and_then(|nonce| nonce.try_into().ok()).map_or_else(|| lines.expected("nonce"), Ok)?;
    let slew = read_slew(&mut lines)?;
    let inputs = read_inputs(&mut lines)?;
    let mut covers = Vec::new();
    while let Some(value) = lines.if_there("cover")? {
        if covers.len() == COVERS_MAX {
            return Err(TextFault::Line(lines.number));
        }
        covers.push(value.parse().or_else(|_| lines.expected("what is covered"))?);
    }
    let length: usize = lines.parsed("document")?;
    if length != lines.rest.len() || length > DOCUMENT_BYTES_MAX {
        return lines.expected("the document's length in bytes");
    }
    let document = lines.rest.to_owned();
    Ok(Change {
        deployment,
        id,
        kind,
        name,
        way,
        requester,
        editor,
        applier,
        criticality,
        base,
        roster,
        rules,
        proposed_ms,
        effective_ms,
        approve_by_ms,
        apply_by_ms,
        until_ms,
        slew,
        on_pressure,
        nonce,
        inputs,
        covers,
        document,
    })
}

fn read_slew(lines: &mut Lines<'_>) -> Result<Resources, TextFault> {
    let mut slew = Resources::default();
    while let Some(value) = lines.if_there("slew")? {
        let (name, amount) = value.split_once(' ').unwrap_or((value, ""));
        let kind = ResourceKind::ALL.into_iter().find(|kind| kind.unit_name() == name);
        match (kind, amount.parse()) {
            (Some(kind), Ok(amount)) if slew.get(kind).is_none() => slew.set(kind, Some(amount)),
            _ => return lines.expected("slew: a resource once, and its units per second"),
        }
    }
    Ok(slew)
}

fn read_inputs(lines: &mut Lines<'_>) -> Result<Vec<Input>, TextFault> {
    let mut inputs = Vec::new();
    while let Some(value) = lines.if_there("input")? {
        let (digest, name) = value.split_once(' ').unwrap_or((value, ""));
        match (digest.parse(), Name::new(name).filter(|name| !name.as_str().is_empty())) {
            (Ok(digest), Some(name)) if inputs.len() < INPUTS_MAX => inputs.push(Input { digest, name }),
            _ => return lines.expected("input: a digest and a name"),
        }
    }
    Ok(inputs)
}

/// Whether the parts of a change go together.
fn make_sense(change: &Change) -> Result<(), TextFault> {
    let is = |holds: bool, otherwise: &'static str| if holds { Ok(()) } else { Err(TextFault::Sense(otherwise)) };
    let latest_ms = [change.proposed_ms, change.effective_ms, change.apply_by_ms, change.until_ms.unwrap_or(0)];
    is(latest_ms.into_iter().all(|at_ms| at_ms <= INSTANT_MS_MAX), "an instant is after the year 9999")?;
    is(change.proposed_ms < change.approve_by_ms, "approve-by must be after proposed")?;
    is(change.approve_by_ms <= change.apply_by_ms, "apply-by must not be before approve-by")?;
    is(change.proposed_ms <= change.effective_ms, "effective must not be before proposed")?;
    is(change.effective_ms <= change.apply_by_ms, "effective must not be after apply-by: both clocks hold then")?;
    is(change.requester.as_str() != VERIFIER && change.editor.as_str() != VERIFIER, "a person asks and edits")?;
    is(
        (change.kind == Kind::RevokePolicy) == change.document.is_empty(),
        "a document stands in every change but one that revokes a policy",
    )?;
    is(
        (change.kind == Kind::CreatePolicy) == change.base.is_none(),
        "base stands in every change but one that creates",
    )?;
    is(
        (change.way == Way::Quorum) == change.until_ms.is_none(),
        "until stands in break-glass and freeze, which end by themselves, and nowhere else",
    )?;
    is(change.until_ms.is_none_or(|until_ms| until_ms > change.effective_ms), "until must be after effective")?;
    if change.kind.is_of_authority() {
        is(change.criticality == Criticality::Critical, "roster and rules are of the highest criticality")?;
        is(change.way == Way::Quorum, "roster and rules change by quorum alone")?;
        is(change.covers.is_empty() && change.inputs.is_empty(), "roster and rules touch no resource")?;
        let (of, name) = if change.kind == Kind::Roster { (change.roster, "roster") } else { (change.rules, "rules") };
        is(change.base == Some(of), "base must be the roster or the rules in force")?;
        is(change.name.as_str() == name, "the name must be `roster` or `rules`")?;
    }
    Ok(())
}

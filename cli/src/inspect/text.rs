//! The reports for people: what holds first, the reasons last, where the eye is.

use std::collections::BTreeMap;

use quotary_decide::eventlog::EventLogReport;
use quotary_decide::ima::ImaReport;
use quotary_decide::inspect::{AttestReport, BankReport, EkReport, Finding, QuoteReport, TpmReport};

use crate::agent::word;
use crate::present::{self, Align, Facts, Table};

/// Most characters of an event's words in a table; `--json` has them all.
const WORDS_MAX: usize = 72;

/// A quote; whether a nonce was given, without which it may be an old one.
pub(super) fn quote(report: &QuoteReport, has_nonce: bool) -> String {
    let mut out = report.attest.as_ref().map(attest).unwrap_or_default();
    if !report.pcrs.is_empty() {
        out += &format!("\nPCR values that the signed digest proves\n{}", values(&report.pcrs));
    }
    let verdict = match (report.verified, has_nonce) {
        (true, true) => "\nVERIFIED\n",
        (true, false) => {
            "\nVERIFIED, BUT NOT FRESH: extraData was held against nothing, so the quote may be of any time; give --nonce\n"
        }
        (false, _) => "\nNOT VERIFIED\n",
    };
    out + &reasons(&report.reasons) + verdict
}

fn attest(attest: &AttestReport) -> String {
    let mut facts = Facts::default();
    facts.add("form", format!("magic {}, type {}", attest.magic, attest.kind));
    facts.add("signer", attest.qualified_signer.as_str());
    facts.add("extraData", attest.extra_data.as_str());
    let safe = if attest.safe { "" } else { ", not safe (power was lost)" };
    let (clock, resets, restarts) = (attest.clock_ms, attest.reset_count, attest.restart_count);
    facts.add("TPM clock", format!("{clock} ms, reset {resets}, restart {restarts}{safe}"));
    facts.add("firmware", attest.firmware_version.as_str());
    let selected: Vec<String> = attest.pcr_select.iter().map(selected).collect();
    facts.add("signed PCRs", selected.join("+"));
    facts.add("PCR digest", attest.pcr_digest.as_str());
    facts.render()
}

fn selected(bank: &BankReport) -> String {
    let indices: Vec<String> = bank.pcrs.iter().map(u8::to_string).collect();
    format!("{}:{}", bank.bank, indices.join(","))
}

fn values<B: AsRef<str>>(banks: &BTreeMap<B, BTreeMap<u8, String>>) -> String {
    let mut table = Table::new(&[("BANK", Align::Left), ("PCR", Align::Right), ("VALUE", Align::Left)], "no values");
    for (bank, values) in banks {
        for (pcr, value) in values {
            table.row([bank.as_ref().to_owned(), pcr.to_string(), value.clone()]);
        }
    }
    table.render(false)
}

fn reasons(reasons: &[Finding]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[("REASON", Align::Left), ("DETAIL", Align::Left)], "none");
    for reason in reasons {
        table.row([reason.code.to_owned(), reason.detail.clone()]);
    }
    format!("\n{}", table.render(false))
}

/// A boot log.
pub(super) fn eventlog(report: &EventLogReport) -> String {
    let columns = [("EVENT", Align::Right), ("PCR", Align::Right), ("STAGE", Align::Left), ("TYPE", Align::Left)];
    let mut events = Table::new(&[columns.as_slice(), &[("SAYS", Align::Left)]].concat(), "no events");
    for event in &report.events {
        let words: String = event.text.iter().flat_map(|text| text.as_str().chars()).take(WORDS_MAX).collect();
        let says = if words.is_empty() || event.text_measured { words } else { format!("{words} (not measured)") };
        let stage = event.stage.map_or_else(|| "-".to_owned(), |stage| word(&stage));
        events.row([event.number.to_string(), event.pcr.to_string(), stage, event.event_type.clone(), says]);
    }
    let secure_boot = match report.secure_boot {
        Some(true) => "on",
        Some(false) => "off",
        None => "cannot be said",
    };
    let problems = report.problems.iter().map(|problem| {
        let event = problem.event.map_or_else(|| "-".to_owned(), |number| number.to_string());
        [problem.code.code().to_owned(), event, problem.detail.as_str().to_owned()]
    });
    let values = values(&report.banks);
    let problems = listed("EVENT", problems);
    format!("{}\nReplayed values\n{values}\nSecure Boot  {secure_boot}\n{problems}", events.render(false))
}

/// A measurement list.
pub(super) fn ima(report: &ImaReport) -> String {
    let mut facts = Facts::default();
    facts.add("entries", report.entries.to_string());
    facts.add("violations", report.violations.to_string());
    facts.add("PCR 10, sha1", report.pcr10.sha1.as_str());
    facts.add("PCR 10, sha256", report.pcr10.sha256.as_str());
    let problems = report
        .problems
        .iter()
        .map(|problem| [problem.code.as_str().to_owned(), problem.entry.to_string(), problem.detail.clone()]);
    let mut out = facts.render() + &listed("ENTRY", problems);
    if report.problems_untold > 0 {
        out += &format!("… and {} more\n", report.problems_untold);
    }
    out
}

fn listed(place: &'static str, problems: impl Iterator<Item = [String; 3]>) -> String {
    let columns = [("PROBLEM", Align::Left), (place, Align::Right), ("DETAIL", Align::Left)];
    let mut table = Table::new(&columns, "no problems");
    problems.for_each(|problem| table.row(problem));
    format!("\n{}", table.render(false))
}

/// The chain of an EK.
pub(super) fn ek(report: &EkReport) -> String {
    let columns = [
        ("SUBJECT", Align::Left),
        ("ISSUER", Align::Left),
        ("KEY", Align::Left),
        ("SIGNED WITH", Align::Left),
        ("CA", Align::Left),
        ("FROM", Align::Left),
        ("UNTIL", Align::Left),
    ];
    let mut table = Table::new(&columns, "no certificate of it holds");
    for certificate in &report.chain {
        table.row([
            certificate.subject.clone(),
            certificate.issuer.clone(),
            certificate.key.clone(),
            certificate.signature.clone(),
            if certificate.ca { "yes" } else { "no" }.to_owned(),
            date(certificate.not_before_unix_s),
            date(certificate.not_after_unix_s),
        ]);
    }
    let tpm = match &report.tpm {
        Some(TpmReport::Hardware { manufacturer }) => format!("\nhardware of {}\n", present::clean(manufacturer)),
        Some(TpmReport::Given { issuer }) => format!("\ncertified by {}, as given\n", present::clean(issuer)),
        None => String::new(),
    };
    let verdict = if report.verified { "\nVERIFIED\n" } else { "\nNOT VERIFIED\n" };
    table.render(false) + &tpm + &reasons(&report.reasons) + verdict
}

/// A certificate may well be older than 1970 says: then the number stands for itself.
fn date(unix_s: i64) -> String {
    match u64::try_from(unix_s).ok().and_then(|s| s.checked_mul(1000)) {
        Some(ms) => present::time(ms),
        None => format!("{unix_s} s"),
    }
}

//! `quotary report`: a document for people, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quotary_common::wire::{ReportHost, ReportLine, ReportView, ShowReport};

use super::plans::amount;
use crate::agent::word;
use crate::exit::Failure;
use crate::present;
use crate::session::Session;

/// Prints the report, of one host if so asked.
pub(crate) async fn report(session: &Session, host: Option<&str>, json: bool) -> Result<(), Failure> {
    let named = match host {
        Some(text) => vec![session.host(text).await?.hex()],
        None => Vec::new(),
    };
    let values: Vec<&str> = named.iter().map(String::as_str).collect();
    let view = session.ask::<ShowReport>(&values).await?;
    if json { present::json(&view) } else { present::print(&markdown(&view)) }
}

fn markdown(view: &ReportView) -> String {
    let mut out = String::from("# What Quotary would have limited\n\n");
    let counted = view.hosts.iter().filter_map(|host| host.since_ms).min();
    let since = counted.map_or_else(
        || "Nothing was counted yet.".to_owned(),
        |at_ms| format!("It counts from {} on.", present::time(at_ms)),
    );
    let window = present::duration(view.window_ms);
    let _ = writeln!(
        out,
        "Made {}. {since} No figure is finer than a metric window ({window}).\n",
        present::time(view.made_at_ms)
    );
    summary(&mut out, view);
    for host in &view.hosts {
        host_part(&mut out, host);
    }
    not_observed(&mut out, view);
    out.push_str(HOW_TO_READ);
    out
}

const HOW_TO_READ: &str = "\
## How to read this

Only hosts whose agents run in `observe` or `dry-run` are counted: nothing was limited on them. Each metric window that a \
host attested is held against what the plan or grant asked for in the middle of it. A window counts as over the limit when \
its mean is: then its whole length counts, and what the mean was above the limit is what would have been throttled \
(CPU time), reclaimed (memory) or delayed (disk, network). Shorter peaks within a window are told apart as `peaks`, without \
an amount. So amounts are the least that a limit would have taken from the load as it was. A load that is limited behaves \
otherwise: work that is delayed comes later, memory that is reclaimed may be read again. Disk limits hold for each disk, and \
windows show all disks of a unit together. Weights and protections take nothing away by themselves: they are listed with \
what was used.
";

/// What lines come to together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Total {
    limits: u64,
    over: u64,
    over_ms: u64,
    compared_ms: u64,
    throttled_cpu_ms: u64,
    reclaimed_bytes_max: u64,
    reclaimed_byte_seconds: u64,
    delayed_bytes: u64,
    delayed_bits: u64,
}

impl Total {
    fn add(&mut self, line: &ReportLine) {
        if line.kind != LIMIT {
            return;
        }
        self.limits += 1;
        self.over += u64::from(line.over_ms > 0);
        let sums = [
            (&mut self.over_ms, Some(line.over_ms)),
            (&mut self.compared_ms, Some(line.compared_ms)),
            (&mut self.throttled_cpu_ms, line.throttled_cpu_ms),
            (&mut self.reclaimed_byte_seconds, line.reclaimed_byte_seconds),
            (&mut self.delayed_bytes, line.delayed_bytes),
            (&mut self.delayed_bits, line.delayed_bits),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more.unwrap_or(0));
        }
        self.reclaimed_bytes_max = self.reclaimed_bytes_max.max(line.reclaimed_bytes_max.unwrap_or(0));
    }

    fn of<'a>(lines: impl Iterator<Item = &'a ReportLine>) -> Self {
        let mut total = Self::default();
        lines.for_each(|line| total.add(line));
        total
    }

    fn cells(&self) -> [String; 7] {
        [
            format!("{} of {}", self.over, self.limits),
            share(self.over_ms, self.compared_ms),
            present::duration(self.throttled_cpu_ms),
            present::bytes(self.reclaimed_bytes_max),
            present::bytes(self.reclaimed_byte_seconds / 3600),
            present::bytes(self.delayed_bytes),
            present::bytes(self.delayed_bits / 8),
        ]
    }
}

const LIMIT: &str = "limit";
const TOTALS: [&str; 7] = [
    "Limits exceeded",
    "Time over",
    "CPU throttled",
    "Memory reclaimed, most at once",
    "Memory over, per hour",
    "Disk delayed",
    "Network delayed",
];

fn lines(view: &ReportView) -> impl Iterator<Item = &ReportLine> {
    view.hosts.iter().flat_map(|host| host.lines.iter())
}

fn summary(out: &mut String, view: &ReportView) {
    let modes = &view.modes;
    let total = Total::of(lines(view));
    let hosts = view.hosts.iter().filter(|host| host.lines.iter().any(|line| line.over_ms > 0)).count();
    out.push_str("## Summary\n\n");
    let facts = [
        format!(
            "Hosts: {} in `observe`, {} in `dry-run`, {} in `enforce`, {} that stated nothing yet.",
            modes.observe, modes.dry_run, modes.enforce, modes.unknown
        ),
        format!(
            "{} of {} limits would have been exceeded, on {hosts} hosts, for {} of the time that was compared.",
            total.over,
            total.limits,
            share(total.over_ms, total.compared_ms)
        ),
        format!(
            "{} of CPU time would have been throttled; {} of disk and {} of network traffic delayed.",
            present::duration(total.throttled_cpu_ms),
            present::bytes(total.delayed_bytes),
            present::bytes(total.delayed_bits / 8)
        ),
        format!(
            "Up to {} of memory would have been reclaimed from one target at once; {} for an hour in all were above limits.",
            present::bytes(total.reclaimed_bytes_max),
            present::bytes(total.reclaimed_byte_seconds / 3600)
        ),
    ];
    for fact in facts {
        let _ = writeln!(out, "- {fact}");
    }
    out.push('\n');
    totals(out, "By whom", "Made by", view, |line| line.made_by.clone());
    totals(out, "By tenant", "Tenant", view, |line| line.tenant.clone().unwrap_or_default());
}

/// One row for each key.
fn totals(out: &mut String, title: &str, column: &str, view: &ReportView, key: impl Fn(&ReportLine) -> String) {
    let mut by: BTreeMap<String, Total> = BTreeMap::new();
    for line in lines(view) {
        by.entry(key(line)).or_default().add(line);
    }
    by.retain(|_, total| total.limits > 0);
    if by.is_empty() {
        return;
    }
    let _ = writeln!(out, "### {title}\n");
    head(out, &[&[column], &TOTALS[..]].concat());
    for (name, total) in by {
        row(out, std::iter::once(cell(&name)).chain(total.cells()));
    }
    out.push('\n');
}

fn host_part(out: &mut String, host: &ReportHost) {
    if host.lines.is_empty() {
        return;
    }
    let name = host.hostname.as_deref().map(|name| format!(" ({})", cell(name))).unwrap_or_default();
    let _ = writeln!(out, "## Host {}{name}\n", cell(&host.id));
    let mode = host.mode.map_or_else(|| "unknown".to_owned(), |mode| word(&mode));
    let trust = if host.trusted { "trusted" } else { "not trusted now" };
    let since = host.since_ms.map_or_else(String::new, |at_ms| format!("; counted from {} on", present::time(at_ms)));
    let _ = writeln!(out, "Mode `{mode}`, {trust}{since}, {} evidences.\n", host.evidences);
    let columns = [
        "Tenant",
        "Target",
        "Control",
        "Limit",
        "Used, mean",
        "Time over",
        "Peaks",
        "Would have been",
        "By",
        "Made by",
    ];
    head(out, &columns);
    for line in &host.lines {
        let limit = line.limit.map_or_else(|| "-".to_owned(), |limit| amount(line.control, limit));
        row(
            out,
            [
                cell(line.tenant.as_deref().unwrap_or_default()),
                cell(&line.subject),
                line.control.name().to_owned(),
                limit,
                if line.compared_ms == 0 { "-".to_owned() } else { used(line) },
                if line.kind == LIMIT { share(line.over_ms, line.compared_ms) } else { "-".to_owned() },
                if line.peaks_ms == 0 { "-".to_owned() } else { present::duration(line.peaks_ms) },
                would_have(line),
                cell(&line.by),
                cell(&line.made_by),
            ],
        );
    }
    out.push('\n');
}

/// What was used, in the unit of what a control limits or shares.
fn used(line: &ReportLine) -> String {
    use quotary_common::plan::ShapedControl;
    match line.control {
        ShapedControl::CpuWeight | ShapedControl::CpuIdle => amount(ShapedControl::CpuQuota, line.used_mean),
        ShapedControl::IoWeight => amount(ShapedControl::IoReadMax, line.used_mean),
        control => amount(control, line.used_mean),
    }
}

fn would_have(line: &ReportLine) -> String {
    let some = |value: Option<u64>| value.filter(|value| *value > 0);
    let parts = [
        some(line.throttled_cpu_ms).map(|ms| format!("{} of CPU throttled", present::duration(ms))),
        some(line.reclaimed_bytes_max).map(|bytes| format!("up to {} reclaimed", present::bytes(bytes))),
        some(line.delayed_bytes).map(|bytes| format!("{} delayed", present::bytes(bytes))),
        some(line.delayed_bits).map(|bits| format!("{} delayed", present::bytes(bits / 8))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match (line.kind.as_str(), parts.is_empty()) {
        (LIMIT, true) => "nothing".to_owned(),
        (LIMIT, false) => parts.join(", "),
        _ => "a share, no limit".to_owned(),
    }
}

fn not_observed(out: &mut String, view: &ReportView) {
    out.push_str("## What was not observed\n\n");
    let mut rows = Vec::new();
    for host in &view.hosts {
        if let Some(why) = nothing_of(host) {
            rows.push([cell(&host.id), "-".to_owned(), "-".to_owned(), why, "-".to_owned()]);
        }
        for line in &host.lines {
            let place =
                |why: String, time| [cell(&host.id), cell(&line.subject), line.control.name().to_owned(), why, time];
            rows.extend(line.untold.iter().map(|untold| place(explained(&untold.why), present::duration(untold.ms))));
            let refused = line.refused_at_ms.map(|at_ms| {
                let why = format!("the host said at {} that it does not follow the plan", present::time(at_ms));
                place(why, "-".to_owned())
            });
            rows.extend(refused);
        }
    }
    if rows.is_empty() {
        out.push_str("Nothing: every control of every plan and grant was compared all the time.\n\n");
        return;
    }
    head(out, &["Host", "Target", "Control", "Why", "Time"]);
    rows.into_iter().for_each(|cells| row(out, cells));
    out.push('\n');
}

/// Why there is nothing, or not all, of a host.
fn nothing_of(host: &ReportHost) -> Option<String> {
    if host.left_out > 0 {
        return Some(format!("{} controls beyond what is kept of one host", host.left_out));
    }
    match (host.mode, host.since_ms, host.lines.is_empty()) {
        (None, _, _) => Some("it has stated nothing yet".to_owned()),
        (Some(quotary_common::envelope::Mode::Enforce), _, _) => {
            Some("it enforces: see `quotary plan list` and `quotary grant list`".to_owned())
        }
        (Some(_), _, true) => Some("no plan and no grant asks for anything on it".to_owned()),
        _ => None,
    }
}

fn explained(code: &str) -> String {
    let why = match code {
        "not-seen" => "no evidence tells of it: it does not run, or has no group of its own",
        "not-measured" => "its evidence has no figure for it",
        "lease-over" => "the host was silent for longer than its lease",
        _ => return cell(code),
    };
    format!("{why} (`{code}`)")
}

/// A part of a time, as a percentage with the time itself.
fn share(part_ms: u64, whole_ms: u64) -> String {
    if whole_ms == 0 {
        return "-".to_owned();
    }
    let permille = u128::from(part_ms) * 1000 / u128::from(whole_ms);
    format!("{}.{} % ({} of {})", permille / 10, permille % 10, present::duration(part_ms), present::duration(whole_ms))
}

fn head(out: &mut String, columns: &[&str]) {
    let _ = writeln!(out, "| {} |", columns.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(columns.len()));
}

fn row(out: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// Text of others, which is neither Markdown nor HTML here.
fn cell(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in present::clean(text).chars() {
        if "\\`*_[]<>|#&~!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn line(more: serde_json::Value) -> ReportLine {
        let mut line = serde_json::json!({
            "subject": "web_1.service", "control": "cpu-quota", "unit": "millicores", "kind": "limit", "by": "p-one",
            "made_by": "token t-ops", "from_ms": 0, "last_ms": 100_000, "limit": 500, "compared_ms": 100_000,
            "used_mean": 800, "over_ms": 50_000, "peaks_ms": 0, "excess_max": 1_500, "throttled_cpu_ms": 50_000,
            "untold": []
        });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    }

    fn view(mode: &str, lines: Vec<ReportLine>) -> ReportView {
        let host = serde_json::json!({
            "host": "02".repeat(32), "id": "h-one", "hostname": "edge|1", "mode": mode, "trusted": true,
            "since_ms": (!lines.is_empty()).then_some(0), "last_ms": 1, "evidences": 6, "left_out": 0, "lines": lines
        });
        let modes = serde_json::json!({ "observe": 1, "dry_run": 2, "enforce": 3, "unknown": 4 });
        let view = serde_json::json!({ "made_at_ms": 200_000, "window_ms": 15_000, "modes": modes, "hosts": [host] });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn a_report_begins_with_what_it_comes_to_and_ends_with_what_was_not_seen() {
        let memory = line(serde_json::json!({
            "control": "memory-high", "unit": "bytes", "limit": 209_715_200_u64, "used_mean": 314_572_800_u64,
            "over_ms": 0, "peaks_ms": 15_000, "throttled_cpu_ms": null, "reclaimed_bytes_max": 1_048_576,
            "reclaimed_byte_seconds": 0, "tenant": "shop", "made_by": "batch",
            "untold": [{ "why": "not-seen", "ms": 30_000 }], "refused_at_ms": 90_000
        }));
        let weight = line(serde_json::json!({ "control": "cpu-weight", "kind": "share", "throttled_cpu_ms": null }));
        let text = markdown(&view("observe", vec![line(serde_json::json!({})), memory, weight]));
        let at = |part: &str| text.find(part).unwrap_or_else(|| unreachable!("{part} is not in:\n{text}"));
        assert!(at("## Summary") < at("### By whom") && at("### By tenant") < at("## Host h-one (edge\\|1)"));
        assert!(at("## Host") < at("## What was not observed") && at("## What was") < at("## How to read this"));
        at("- Hosts: 1 in `observe`, 2 in `dry-run`, 3 in `enforce`, 4 that stated nothing yet.");
        at("- 1 of 2 limits would have been exceeded, on 1 hosts, for 25.0 % (50 s of 3 min)");
        at("| token t-ops | 1 of 1 | 50.0 % (50 s of 100 s) | 50 s |");
        at("| shop | 0 of 1 | 0.0 % (0 ms of 100 s) | 0 ms | 1 MiB |");
        at(
            "| - | web\\_1.service | cpu-quota | 500m | 800m | 50.0 % (50 s of 100 s) | - | 50 s of CPU throttled | p-one | token t-ops |",
        );
        at("| memory-high | 200 MiB | 300 MiB | 0.0 % (0 ms of 100 s) | 15 s | up to 1 MiB reclaimed |");
        at("| cpu-weight | 500 | 800m | - | - | a share, no limit |");
        at("(`not-seen`) | 30 s |");
        at("the host said at 1970-01-01T00:01:30Z that it does not follow the plan");
    }

    #[test]
    fn hosts_of_which_nothing_is_counted_are_named_with_why() {
        let of = |mode: &str| markdown(&view(mode, vec![]));
        assert!(of("enforce").contains("it enforces"));
        assert!(of("dry-run").contains("no plan and no grant asks for anything on it"));
        assert!(of("observe").contains("Nothing was counted yet.") && !of("observe").contains("### By whom"));
    }

    #[test]
    fn what_others_wrote_is_neither_markdown_nor_html() {
        assert_eq!(cell("a|b<script>[x](y)`*_\n"), "a\\|b\\<script\\>\\[x\\](y)\\`\\*\\_?");
        assert_eq!(cell(""), "-");
    }
}

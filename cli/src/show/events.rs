//! `quotary events`: what happened to hosts, and what happens.

use std::time::Duration;

use quotary_client::{ClientError, Told, ToldStream};
use quotary_common::wire::{HostEvent, ShowStatus, WatchEvents};

use crate::args::EventsArgs;
use crate::exit::{Code, Failure, with_causes};
use crate::present;
use crate::session::Session;

/// A stream that is silent for longer is taken for dead: the verifier breaks silence every 15 s.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two tries to resume a stream: doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Shows events as they come.
pub(crate) async fn events(session: &Session, args: &EventsArgs, json: bool) -> Result<(), Failure> {
    let mut place = Place { from: args.from, last_id: None, end: None };
    if !args.follow {
        let size = session.ask::<ShowStatus>(&[]).await?.audit.size;
        place.from = Some(args.from.unwrap_or(0));
        place.end = Some(size);
        if place.is_at_end() {
            return Err(Failure::new(Code::Refused, format!("the audit log has {size} leaves only")));
        }
    }
    if !json {
        present::print(&line(["LEAF", "TIME", "KIND", "HOST", "WHAT"]))?;
    }
    let (mut retry, mut opened) = (RETRY_FIRST, false);
    loop {
        let before = place.last_id;
        let broken = match place.open(session).await {
            Ok(stream) => {
                opened = true;
                match show(stream, &mut place, json).await? {
                    None => return Ok(()),
                    Some(broken) => broken,
                }
            }
            Err(error) if opened && error.may_retry() => error,
            Err(error) => return Err(error.into()),
        };
        // What was told since shows that the verifier is there again.
        retry = if place.last_id == before { (retry * 2).min(RETRY_LONGEST) } else { RETRY_FIRST };
        eprintln!("quotary: {}; resuming in {} s", with_causes(&broken), retry.as_secs());
        tokio::time::sleep(retry).await;
    }
}

/// How far we have read, and how far we want to.
struct Place {
    from: Option<u64>,
    last_id: Option<u64>,
    /// The first leaf that is not asked for.
    end: Option<u64>,
}

impl Place {
    async fn open(&self, session: &Session) -> Result<ToldStream<WatchEvents>, ClientError> {
        let from = self.from.map(|from| from.to_string());
        session.watch(&from.as_deref().into_iter().collect::<Vec<_>>(), self.last_id, PATIENCE).await
    }
    fn is_at_end(&self) -> bool {
        let next = self.last_id.map(|id| id.saturating_add(1)).or(self.from).unwrap_or(0);
        self.end.is_some_and(|end| next >= end)
    }
    fn is_asked_for(&self, event: &HostEvent) -> bool {
        self.end.is_none_or(|end| event.leaf_index < end)
    }
}

/// Shows one stream; what broke it, or nothing when all that was asked for is shown.
async fn show(
    mut stream: ToldStream<WatchEvents>,
    place: &mut Place,
    json: bool,
) -> Result<Option<ClientError>, Failure> {
    loop {
        let Told { last_id, event } = match stream.next().await {
            Ok(Some(told)) => told,
            Ok(None) => return Ok(Some(stream.ended())),
            Err(error) if error.may_retry() => return Ok(Some(error)),
            Err(error) => return Err(error.into()),
        };
        if let Some(event) = event.filter(|event| place.is_asked_for(event)) {
            let text = if json { json_line(&event)? } else { row(&event) };
            if !present::print_on(text.as_bytes())? {
                return Ok(None);
            }
        }
        place.last_id = last_id.or(place.last_id);
        if place.is_at_end() {
            return Ok(None);
        }
    }
}

fn json_line(event: &HostEvent) -> Result<String, Failure> {
    let text = serde_json::to_string(event);
    Ok(text.map_err(|e| Failure::new(Code::Unreadable, format!("cannot write as JSON: {e}")))? + "\n")
}

fn row(event: &HostEvent) -> String {
    let (leaf, time) = (event.leaf_index.to_string(), present::time(event.time_ms));
    line([&leaf, &time, event.kind.code(), &event.host, &what(event)])
}

/// Columns of fixed width: events come one by one.
fn line([leaf, time, kind, host, what]: [&str; 5]) -> String {
    let text = format!("{leaf:>9}  {time:20}  {kind:15}  {host:28}  {what}");
    format!("{}\n", present::clean(text.trim_end()))
}

fn what(event: &HostEvent) -> String {
    let mut parts = Vec::new();
    if event.zone_before.is_some() || event.zone.is_some() {
        let [before, now] = [&event.zone_before, &event.zone].map(|zone| zone.as_deref().unwrap_or("none"));
        parts.push(format!("zone {before} → {now}"));
    }
    parts.extend(event.epoch.map(|epoch| format!("epoch {epoch}")));
    if let Some(told) = &event.anomaly {
        let more = if told.more > 0 { format!(" and {} more", told.more) } else { String::new() };
        parts.push(format!("{} of {} {}{more}", told.kind.code(), told.subject, told.resource));
    }
    if !event.reasons.is_empty() {
        let codes: Vec<&str> = event.reasons.iter().map(|reason| reason.code()).collect();
        parts.push(format!("({})", codes.join(", ")));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::reason::Reason;
    use quotary_common::wire::EventKind;

    fn event() -> HostEvent {
        HostEvent {
            leaf_index: 12,
            time_ms: 1_700_000_000_000,
            kind: EventKind::ZoneChanged,
            host: "h-abcdefghijklmnopqrstuvwxyz".to_owned(),
            reasons: vec![Reason::Ima, Reason::BootLog],
            zone_before: Some("mea\u{1b}sured".to_owned()),
            zone: Some("joined".to_owned()),
            epoch: None,
            anomaly: None,
        }
    }

    #[test]
    fn an_event_is_a_line_under_its_header_and_cannot_move_the_cursor() {
        let (header, row) = (line(["LEAF", "TIME", "KIND", "HOST", "WHAT"]), row(&event()));
        let column = |text: &str, of: &str| text.find(of).map(|at| text[..at].chars().count());
        assert_eq!(column(&header, "WHAT"), column(&row, "zone mea?sured → joined (ima, boot-log)"), "{header}{row}");
        assert_eq!(column(&header, "HOST"), column(&row, "h-abc"), "{header}{row}");
        let raised = HostEvent { epoch: Some(4), zone: None, zone_before: None, ..event() };
        assert_eq!(what(&raised), "epoch 4 (ima, boot-log)");
    }

    #[test]
    fn without_follow_it_ends_where_the_log_ended() {
        let mut place = Place { from: Some(3), last_id: None, end: Some(9) };
        assert!(!place.is_at_end() && !place.is_asked_for(&event()));
        place.last_id = Some(7);
        assert!(!place.is_at_end());
        place.last_id = Some(8);
        assert!(place.is_at_end());
        assert!(Place { from: Some(9), last_id: None, end: Some(9) }.is_at_end());
        let following = Place { from: None, last_id: Some(u64::MAX), end: None };
        assert!(!following.is_at_end() && following.is_asked_for(&event()));
    }
}

//! Whom to tell of events, checked.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use quotary_common::wire::EventKind;
use zeroize::Zeroizing;

use super::Faults;
use super::raw::{RawLimits, RawWebhook};
use crate::webhook::{Receiver, Webhook, system_authorities};

/// Most webhooks: each has a worker of its own.
const WEBHOOKS_MAX: usize = 16;
/// Shortest secret, in bytes: nobody guesses it.
const SECRET_BYTES_MIN: usize = 16;
/// Longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;
/// Event streams at once, unless the configuration says otherwise or allows few connections.
const EVENT_STREAMS: usize = 16;
/// A stream keeps a connection of those that strangers have: it may take one in so many of all.
const STREAMS_SHARE: usize = 8;

pub(super) fn check(raw: &[RawWebhook], base: &Path, faults: &mut Faults) -> Vec<Webhook> {
    if raw.len() > WEBHOOKS_MAX {
        faults.add(format!("webhook: there are {}, at most {WEBHOOKS_MAX} are served", raw.len()));
    }
    let mut urls = BTreeSet::new();
    let webhooks = raw.iter().enumerate().take(WEBHOOKS_MAX).map(|(n, webhook)| {
        // What comes after the host may be a secret: it is not shown.
        let receiver = faults.note(&format!("webhook {}", n + 1), Receiver::parse(&webhook.url));
        let what = format!("webhook {} ({})", n + 1, receiver.as_ref().map_or("?", Receiver::shown));
        if !urls.insert(webhook.url.as_str()) {
            faults.add(format!("{what}: another one has the same url, so they would share one place in the log"));
        }
        let kinds = kinds(&what, webhook.kinds.as_deref(), faults);
        let secret = secret(&what, &base.join(&webhook.secret_file), faults);
        let authorities = match &webhook.ca_file {
            Some(file) => {
                let path = base.join(file);
                faults.note(&format!("{what}: ca_file {}", path.display()), std::fs::read(&path))
            }
            None if receiver.as_ref().is_some_and(Receiver::is_https) => faults.note(&what, system_authorities()),
            None => Some(Vec::new()),
        };
        faults.note(&what, Webhook::new(receiver?, kinds, &secret?, &authorities?))
    });
    webhooks.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn kinds(what: &str, raw: Option<&[String]>, faults: &mut Faults) -> BTreeSet<EventKind> {
    let Some(raw) = raw else { return EventKind::ALL.iter().copied().collect() };
    if raw.is_empty() {
        faults.add(format!("{what}: kinds is empty, so it would be told nothing"));
    }
    raw.iter().filter_map(|code| faults.note(&format!("{what}: kinds"), code.parse())).collect()
}

/// The bytes of a file that only its owner may read, without the white space at its end.
fn secret(what: &str, path: &Path, faults: &mut Faults) -> Option<Zeroizing<Vec<u8>>> {
    let what = format!("{what}: secret_file {}", path.display());
    let file = faults.note(&what, File::open(path))?;
    let mode = faults.note(&what, file.metadata())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        faults.add(format!("{what}: its mode is {mode:03o}, others may read it: use `chmod 600`"));
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    faults.note(&what, file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))?;
    let length = bytes.trim_ascii_end().len();
    if length < SECRET_BYTES_MIN || bytes.len() as u64 > SECRET_BYTES_MAX {
        faults.add(format!("{what}: a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"));
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

/// How many event streams there may be.
pub(super) fn event_streams_max(raw: &RawLimits, faults: &mut Faults) -> usize {
    let share = (raw.connections_max / STREAMS_SHARE).max(1);
    let Some(max) = raw.event_streams_max else { return EVENT_STREAMS.min(share) };
    if !(1..=share).contains(&max) {
        faults.add(format!(
            "limits.event_streams_max: {max} is not between 1 and an eighth of limits.connections_max ({share})"
        ));
    }
    max
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use super::super::{Config, ConfigError, parse};
    use super::*;

    const BASE: &str = "name = \"v\"\ndata_dir = \"d\"\nlisten = \"127.0.0.1:0\"\nurl = \"https://localhost\"\n\
        [[zone]]\nname = \"z\"\n[[application]]\nname = \"a\"\ntenant = \"t\"\n";

    /// A directory with a CA's certificate and secrets.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            let key = rcgen::KeyPair::generate().unwrap();
            let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            std::fs::write(place.0.path().join("ca.pem"), ca.pem()).unwrap();
            place.secret("secret", "0123456789abcdef\n", 0o600);
            place
        }
        fn secret(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }
        fn parse(&self, more: &str) -> Result<Config, ConfigError> {
            parse(&format!("{BASE}{more}"), self.0.path(), Path::new("verifier.toml"))
        }
        fn faults(&self, more: &str) -> String {
            self.parse(more).unwrap_err().to_string()
        }
    }

    #[test]
    fn a_webhook_is_told_everything_unless_it_names_kinds() {
        let place = Place::new();
        let text = "[[webhook]]\nurl = \"https://a.example/x\"\nca_file = \"ca.pem\"\nsecret_file = \"secret\"\n\
            [[webhook]]\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"secret\"\nkinds = [\"revoked\", \"ak-replaced\"]\n";
        let config = place.parse(text).unwrap();
        let kinds: Vec<_> = config.webhooks.iter().map(|webhook| webhook.kinds().len()).collect();
        assert_eq!(kinds, [EventKind::ALL.len(), 2]);
        assert_eq!(config.webhooks[0].receiver().shown(), "https://a.example");
    }

    #[test]
    fn all_faults_of_webhooks_are_told_at_once_and_no_url_is_shown() {
        let place = Place::new();
        place.secret("open", "0123456789abcdef", 0o640);
        place.secret("short", "0123456789abcde \n\n", 0o600);
        let hook = |url: &str, more: &str| format!("[[webhook]]\nurl = \"{url}\"\n{more}\n");
        let text = [
            hook("http://hooks.example/TOKEN", "secret_file = \"secret\"\nkinds = [\"revokd\", \"gone\"]"),
            hook("https://b.example/TOKEN", "ca_file = \"secret\"\nsecret_file = \"secret\"\nkinds = []"),
            hook("https://c.example/", "ca_file = \"none.pem\"\nsecret_file = \"open\""),
            hook("http://127.0.0.1/", "secret_file = \"short\""),
            hook("http://127.0.0.1/", "secret_file = \"absent\""),
        ];
        let told = place.faults(&text.concat());
        for part in [
            "webhook 1: the url must begin with https://",
            "webhook 1 (?): kinds: `revokd`",
            "`gone`",
            "webhook 2 (https://b.example): kinds is empty",
            "webhook 2 (https://b.example): no certificate",
            "none.pem",
            "open: its mode is 640",
            "short: a secret has 16",
            "absent",
            "webhook 5 (http://127.0.0.1): another one has the same url",
        ] {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
        assert!(!told.contains("TOKEN"), "{told}");
        assert!(place.faults("[[webhook]]\nurl = \"http://127.0.0.1/\"\n").contains("secret_file"));
        let many = hook("http://127.0.0.1/", "secret_file = \"secret\"").repeat(WEBHOOKS_MAX + 1);
        assert!(place.faults(&many).contains("at most 16"));
    }

    #[test]
    fn event_streams_leave_places_to_others() {
        let place = Place::new();
        let max = |text: &str| place.parse(text).unwrap().event_streams_max;
        assert_eq!(
            (max(""), max("[limits]\nconnections_max = 64\n"), max("[limits]\nconnections_max = 2\n")),
            (16, 8, 1)
        );
        assert_eq!(max("[limits]\nevent_streams_max = 512\n"), 512);
        assert!(place.faults("[limits]\nevent_streams_max = 513\n").contains("(512)"));
        assert!(place.faults("[limits]\nevent_streams_max = 0\n").contains("event_streams_max"));
    }
}

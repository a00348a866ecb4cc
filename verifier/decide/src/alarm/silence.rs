//! Series that operators want to hear nothing of.

use quotary_common::id::HostId;

use super::subject_name;
use crate::history::{Measure, SeriesKey};

/// Which series are silent: those that have all that is named here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Silence {
    /// Of this host.
    pub host: Option<HostId>,
    /// Of this subject: `host`, a cgroup's path, `tenant:NAME`, `pool:NAME`; one that ends in `*` is a beginning.
    pub subject: Option<String>,
    /// Of this measure.
    pub measure: Option<Measure>,
}

impl Silence {
    /// Whether a series is silent by it.
    pub fn covers(&self, key: &SeriesKey) -> bool {
        let of_host = self.host.is_none_or(|host| key.host == Some(host));
        let of_subject = self.subject.as_deref().is_none_or(|subject| {
            let name = subject_name(&key.subject);
            subject.strip_suffix('*').map_or(name == subject, |beginning| name.starts_with(beginning))
        });
        of_host && of_subject && self.measure.is_none_or(|measure| measure == key.measure)
    }
}

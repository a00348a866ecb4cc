//! What the verifier answers, as tables: one file per thing that is shown.
//!
//! Does: asks one route, shows its reply. May assume: replies are well-formed (the client checked), their text
//! is not clean. Promises: `--json` prints the reply as the route gave it (evidence: decoded). Must never: judge.

pub(crate) mod anomalies;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod forecast;
pub(crate) mod grants;
pub(crate) mod hosts;
pub(crate) mod hours;
pub(crate) mod leaf;
pub(crate) mod models;
pub(crate) mod plans;
pub(crate) mod report;
pub(crate) mod result;
pub(crate) mod status;

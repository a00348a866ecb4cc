//! Profile: what an application will need, from forecast, class and request.
//!
//! Does: finds the request that costs least between room unused and demand unmet, and turns forecast, class and declared request into
//! the size of a grant; where usage was at a limit, or the application was short, with a margin more.
//! May assume: that a forecast's quantiles ascend.
//! Promises: every number of a profile says why, with a code; a profile never exceeds the declared request, and what strain adds is
//! never above a fixed share of what was used: no size feeds on itself.
//! Must never: run a model (the shell does) or read a clock.

mod reason;
mod request;
mod size;
mod strain;

pub use reason::{Reason, ReasonCode};
pub use request::{Request, request};
pub use size::{Outlook, Profile, size};
pub use strain::Strain;

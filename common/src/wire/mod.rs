//! The routes and their JSON bodies: one table from which router, rights, OpenAPI and client derive.
//!
//! A route is a type: [`Route`] gives its method, path, right, request, reply and doc, so a route without a
//! right does not compile, and a client cannot send another body than the router takes. Bodies refuse
//! unknown fields in requests; replies may grow.

mod agent;
mod anomaly;
mod appraisal;
mod change;
mod event;
mod forecast;
mod history;
mod local;
mod model;
mod plan;
mod report;
mod route;
mod verifier;

pub use agent::*;
pub use anomaly::*;
pub use appraisal::*;
pub use change::*;
pub use event::{EventBatch, EventKind, HostEvent, SIGNATURE_HEADER, UnknownKind, WebhookView};
pub use forecast::{HourlyForecasts, HourlySeries};
pub use history::{HistoryPoint, HistorySeries, HistoryView};
pub use local::*;
pub use model::*;
pub use plan::*;
pub use report::*;
pub use route::{
    Base64, Empty, Error, Method, Nothing, Right, Route, RouteInfo, path_alone, path_with, query_names, unescaped,
};
pub use verifier::*;

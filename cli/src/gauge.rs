//! `quotary gauge`: an application says how it fares.
//!
//! Does: states gauges on the agent's socket, for the grant that we run under.
//! May assume: the agent knows us by the kernel's word.
//! Promises: nothing is printed where it was taken, unless JSON is asked for: scripts call it every few seconds.
//! Must never: try again by itself: the next statement says more.

use quotary_client::{ClientError, LocalClient};
use quotary_common::reason::Reason;
use quotary_common::wire::{GaugeStatement, StateGauges};

use crate::args::GaugeArgs;
use crate::exit::{Code, Failure, code_of};
use crate::present;

/// States what the arguments say.
pub(crate) async fn gauge(args: &GaugeArgs, json: bool) -> Result<(), Failure> {
    let statement = GaugeStatement {
        requests_per_minute: args.requests_per_minute,
        errors_per_minute: args.errors_per_minute,
        request_latency_microseconds: args.latency_us,
    };
    let client = LocalClient::new(&args.socket);
    let Some(grant) = &args.grant else {
        let why = "there is no grant to state them for: `quotary run -- COMMAND` sets QUOTARY_GRANT; --grant names one";
        return Err(Failure::new(Code::Usage, why));
    };
    match client.call::<StateGauges>(&[grant], &statement).await {
        Ok(held) if json => present::json(&held),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: ClientError) -> Failure {
    if let ClientError::Refused { error: told, .. } = &error
        && told.reason == Reason::NotFound
    {
        let text = format!("{error}: the grant has ended, belongs to another user, or QUOTARY_GRANT is not one");
        return Failure::new(code_of(&error), text);
    }
    error.into()
}

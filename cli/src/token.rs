//! `quotary token …`: tokens that admit hosts and operators.

use std::collections::BTreeMap;

use quotary_common::wire::{
    Inventory, JoinTokenRequest, MakeJoinToken, MakeOperatorToken, OperatorTokenRequest, Right, TokenReply,
};

use crate::args::{JoinArgs, OperatorArgs, TokenCommand};
use crate::credentials::write_secret;
use crate::exit::{Code, Failure};
use crate::session::Session;
use crate::{now_ms, present};

/// Makes one.
pub(crate) async fn token(session: &Session, command: TokenCommand, json: bool) -> Result<(), Failure> {
    let (reply, made) = match &command {
        TokenCommand::Join(args) => (session.call::<MakeJoinToken>(&[], &join(args)?).await?, &args.made),
        TokenCommand::Operator(args) => (session.call::<MakeOperatorToken>(&[], &operator(args)).await?, &args.made),
    };
    if let Some(path) = &made.out {
        // The token exists already: if it cannot be written it must not be lost silently.
        write_secret(path, &reply.token).map_err(|e| {
            let failure = Failure::from(e);
            Failure::new(
                Code::Unreadable,
                format!("{}; the token {} was made and is lost", failure.message(), reply.id),
            )
        })?;
        return told(&reply, Some(&path.display().to_string()), json);
    }
    told(&reply, None, json)
}

fn told(reply: &TokenReply, written_to: Option<&str>, json: bool) -> Result<(), Failure> {
    let until = format!("{} ({})", present::time(reply.not_after_ms), present::age(reply.not_after_ms, now_ms()));
    match (json, written_to) {
        (true, None) => present::json(reply),
        (true, Some(path)) => {
            present::json(&serde_json::json!({"id": reply.id, "not_after_ms": reply.not_after_ms, "file": path}))
        }
        (false, None) => {
            present::print(&format!("{}\n", present::clean(&reply.token)))?;
            eprintln!("quotary: token {} holds until {until}; it is shown only now", reply.id);
            Ok(())
        }
        (false, Some(path)) => {
            present::print(&format!("token {} written to {path}; it holds until {until}\n", reply.id))
        }
    }
}

fn join(args: &JoinArgs) -> Result<JoinTokenRequest, Failure> {
    let mut labels = BTreeMap::new();
    for (key, value) in &args.labels {
        if labels.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::new(Code::Usage, format!("the label `{key}` is given twice")));
        }
    }
    let inventory = Inventory { labels, capacity: args.capacity.resources() };
    Ok(JoinTokenRequest { zone: args.zone.clone(), inventory, valid_for_ms: args.made.valid_for })
}

fn operator(args: &OperatorArgs) -> OperatorTokenRequest {
    let mut rights: Vec<Right> = args.rights.clone();
    rights.sort_unstable();
    rights.dedup();
    OperatorTokenRequest { name: args.name.clone(), rights, valid_for_ms: args.made.valid_for }
}

//! `quotary change …`: changes of policies, roster and rules, from the proposal to the vote.
//!
//! Does: proposes and edits; shows changes, previews their plans; fetches the text that people sign, holds it against what
//! was asked for, shows it, has OpenSSH sign it, and hands the vote in; writes texts and votes for other tools.
//! May assume: nothing about an answer: what is signed is what was checked and shown here.
//! Promises: nothing is signed that was not shown, nor without a yes; a signature is checked here before it is sent; no
//! private key is read by this program.
//! Must never: say that a vote counts; the verifier does, and every agent again.

mod export;
mod keys;
mod preview;
mod request;
mod show;
mod sign;
mod text;
mod vote;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod fixture;

use quotary_common::quorum::vote::Verb;
use quotary_common::wire::{EditChange, ProposeChange, WithdrawChange};

use crate::args::ChangeCommand;
use crate::exit::Failure;
use crate::now_ms;
use crate::session::Session;

/// Does what was asked; the exit code.
pub(crate) async fn change(session: &Session, command: ChangeCommand, json: bool) -> Result<u8, Failure> {
    match command {
        ChangeCommand::Propose(args) => {
            let request = request::request(&args.asked, now_ms())?;
            let view = session.call::<ProposeChange>(&[], &request).await?;
            show::one(&view, json)?;
            text::is_of(&view, &request.subject)?;
        }
        ChangeCommand::Edit(args) => {
            let request = request::request(&args.asked, now_ms())?;
            let id = text::named(session, &args.change).await?;
            let view = session.call::<EditChange>(&[&id], &request).await?;
            show::one(&view, json)?;
            text::is_of(&view, &request.subject)?;
        }
        ChangeCommand::List { state } => show::list(session, state.as_deref(), json).await?,
        ChangeCommand::Show(id) => show::one(&text::fetch(session, &id.change).await?.view, json)?,
        ChangeCommand::Export(args) => export::text(session, &args).await?,
        ChangeCommand::Approve(args) => return vote::vote(session, &args, Verb::Approval, json).await,
        ChangeCommand::Reject(args) => return vote::vote(session, &args, Verb::Rejection, json).await,
        ChangeCommand::WithdrawVote(args) => return vote::vote(session, &args, Verb::Withdrawal, json).await,
        ChangeCommand::BreakGlass(args) => return vote::vote(session, &args, Verb::BreakGlass, json).await,
        ChangeCommand::Review(args) => return vote::vote(session, &args, Verb::Review, json).await,
        ChangeCommand::Freeze(args) => {
            let id = text::named(session, &args.id.change).await?;
            let request = request::freeze(&id, args.lasts);
            let view = session.call::<ProposeChange>(&[], &request).await?;
            show::one(&view, json)?;
            text::is_of(&view, &request.subject)?;
        }
        ChangeCommand::Withdraw(id) => {
            let id = text::named(session, &id.change).await?;
            show::one(&session.ask::<WithdrawChange>(&[&id]).await?, json)?;
        }
        ChangeCommand::Preview(args) => preview::preview(session, &args, json).await?,
        ChangeCommand::Votes(args) => export::votes(session, &args, json).await?,
    }
    Ok(0)
}

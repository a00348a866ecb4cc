//! Models: shown, tried, promoted on proof, rolled back.

use std::sync::Arc;

use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, ContestView, ModelScoreView, ModelView, ModelsView};
use quotary_decide::contest::Outcome;
use quotary_models::Model;

use super::App;
use super::auth::Caller;
use super::mount::Call;
use crate::core::{Command, ModelsChange};
use crate::predict::{MeasureScore, Standing, digest_of};

const DAY_HOURS: u64 = 24;
const WEEK_HOURS: u64 = 168;
const WHY_BYTES_MAX: usize = 256;

/// The model that forecasts, as the status tells it.
pub(super) fn forecasting(app: &App) -> String {
    match &app.contest.models().champion {
        Some(model) => format!("{} {}", model.reference().name, model.reference().sha256),
        None => "none: the rungs below answer".to_owned(),
    }
}

pub(super) async fn list(call: Call<wire::ListModels>) -> Result<ModelsView, Refusal> {
    Ok(view(&call.app))
}

pub(super) async fn shadow(call: Call<wire::ShadowModel>) -> Result<ModelsView, Refusal> {
    let actor = actor(&call.caller)?;
    let (manifest, onnx) = (call.body.manifest.0, call.body.onnx.0);
    // Some tens of milliseconds of work.
    let loaded = tokio::task::spawn_blocking(move || (Model::load(&manifest, &onnx), manifest, onnx)).await;
    let (loaded, manifest, onnx) =
        loaded.map_err(|_| Refusal::new(Reason::Unavailable, "the model could not be loaded: it was broken off"))?;
    let model = loaded.map_err(|error| Refusal::new(Reason::Malformed, chain(&error)))?;
    let change = ModelsChange::Shadow { model: Arc::new(model), manifest, onnx };
    changed(call.app, change, actor).await
}

pub(super) async fn withdraw(call: Call<wire::WithdrawModel>) -> Result<ModelsView, Refusal> {
    let actor = actor(&call.caller)?;
    changed(call.app, ModelsChange::Withdraw, actor).await
}

pub(super) async fn promote(call: Call<wire::PromoteModel>) -> Result<ModelsView, Refusal> {
    let actor = actor(&call.caller)?;
    let challenger = call.body.sha256;
    let standing = call.app.contest.standing();
    if call.app.contest.models().challenger.as_deref().map(digest_of) != Some(challenger) {
        let text = format!("model {} is not tried now: `quotary model list` shows which is", challenger.hex());
        return Err(Refusal::new(Reason::NotFound, text));
    }
    let outcome = standing.outcome.as_ref().filter(|_| standing.tried == Some(challenger));
    match (outcome, &standing.proof) {
        (Some(outcome @ Outcome::Better { .. }), Some(record)) => {
            let record = Arc::clone(record);
            let why = sentences(outcome).join("; ");
            let champion = standing.champion_model;
            changed(call.app, ModelsChange::Promote { challenger, champion, record, why }, actor).await
        }
        (outcome, _) => {
            let why = outcome.map_or_else(|| vec!["nothing was recorded yet".to_owned()], sentences);
            Err(Refusal::new(Reason::Model, format!("not proven better: {}", why.join("; "))))
        }
    }
}

pub(super) async fn roll_back(call: Call<wire::RollBackModel>) -> Result<ModelsView, Refusal> {
    let actor = actor(&call.caller)?;
    let why = call.body.why;
    if why.is_empty() || why.len() > WHY_BYTES_MAX {
        return Err(Refusal::new(Reason::Malformed, "why must be 1 to 256 bytes: it stands in the log"));
    }
    changed(call.app, ModelsChange::RollBack { why }, actor).await
}

async fn changed(app: Arc<App>, change: ModelsChange, actor: String) -> Result<ModelsView, Refusal> {
    app.queue.ask(|answer| Command::ChangeModels { change, actor, answer }).await?;
    Ok(view(&app))
}

fn actor(caller: &Caller) -> Result<String, Refusal> {
    match caller {
        Caller::Operator(token) => Ok(format!("token {token}")),
        Caller::Joiner(_) | Caller::Host(..) => Err(Refusal::new(Reason::Forbidden, "models are changed by operators")),
    }
}

/// An error with what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn view(app: &App) -> ModelsView {
    let (models, standing) = (app.contest.models(), app.contest.standing());
    let one = |model: &Arc<Model>, scores: &[MeasureScore], since_ms: Option<u64>| ModelView {
        name: model.reference().name.clone(),
        sha256: digest_of(model),
        since_ms,
        scores: scores.iter().flat_map(score_views).collect(),
    };
    let is_tried = standing.tried.is_some() && standing.tried == models.challenger.as_deref().map(digest_of);
    let tried = if is_tried { &standing.challenger[..] } else { &[] };
    let since_ms = (models.since_ms > 0).then_some(models.since_ms);
    ModelsView {
        champion: models.champion.as_ref().map(|model| one(model, &standing.champion, since_ms)),
        challenger: models.challenger.as_ref().map(|model| one(model, tried, models.tried_since_ms)),
        before: models.before.as_ref().map(|model| one(model, &[], None)),
        contest: models.challenger.as_ref().map(|_| contest(if is_tried { Some(&standing) } else { None })),
        drift: standing.drift,
    }
}

fn score_views(score: &MeasureScore) -> [ModelScoreView; 2] {
    [(DAY_HOURS, score.day), (WEEK_HOURS, score.week)].map(|(hours, of)| ModelScoreView {
        resource: score.measure.unit_name().to_owned(),
        hours,
        forecasts: of.forecasts,
        steps: of.steps,
        coverage: of.coverage(),
        loss_ratio_to_ewma: of.loss_ratio(),
    })
}

fn contest(standing: Option<&Standing>) -> ContestView {
    let outcome = standing.and_then(|standing| standing.outcome.as_ref());
    ContestView {
        may_promote: matches!(outcome, Some(Outcome::Better { .. })),
        why: outcome.map_or_else(|| vec!["nothing was recorded yet".to_owned()], sentences),
        record: standing.and_then(|standing| standing.record),
    }
}

/// What an outcome says, a sentence each.
fn sentences(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Wait(missing) => vec![missing.to_string()],
        Outcome::Better { interval, coverage, slack } => vec![
            format!("its loss is {interval} of the champion's"),
            format!("its 95 % line covers {coverage:.3}"),
            format!("at 5 % of overruns it leaves {:.3} unused, the champion {:.3}", slack.1, slack.0),
        ],
        Outcome::NotBetter(objections) => objections.iter().map(ToString::to_string).collect(),
    }
}

//! `quotary model …`, as far as the verifier is asked.

use quotary_common::id::Digest;
use quotary_common::limits::{MANIFEST_BYTES_MAX, MODEL_BYTES_MAX};
use quotary_common::wire::{
    Base64, ListModels, ModelRequest, ModelScoreView, ModelView, ModelsView, PromoteModel, PromotionRequest,
    RollBackModel, RollbackRequest, ShadowModel, WithdrawModel,
};

use crate::args::{ModelCommand, ModelFiles};
use crate::exit::{Code, Failure};
use crate::input::read;
use crate::present::{self, Align, Table};
use crate::session::Session;

/// Hexadecimal digits of a digest that are shown.
const SHOWN_DIGITS: usize = 12;

/// Does what was asked.
pub(crate) async fn model(session: &Session, command: ModelCommand, json: bool) -> Result<(), Failure> {
    let view = match command {
        ModelCommand::List => session.ask::<ListModels>(&[]).await?,
        ModelCommand::Shadow(files) => session.call::<ShadowModel>(&[], &request(&files)?).await?,
        ModelCommand::Withdraw => session.ask::<WithdrawModel>(&[]).await?,
        ModelCommand::Promote { sha256 } => {
            let models = session.ask::<ListModels>(&[]).await?;
            let sha256 = tried(&models, &sha256)?;
            session.call::<PromoteModel>(&[], &PromotionRequest { sha256 }).await?
        }
        ModelCommand::Rollback { why } => session.call::<RollBackModel>(&[], &RollbackRequest { why }).await?,
        // The program of the offline verbs loads models.
        ModelCommand::Verify(_) => return crate::offline::hand_over().map(|_| ()),
    };
    if json {
        return present::json(&view);
    }
    present::print_table(&table(&view))?;
    present::print(&told(&view))
}

fn request(files: &ModelFiles) -> Result<ModelRequest, Failure> {
    Ok(ModelRequest {
        manifest: Base64(read(&files.manifest, MANIFEST_BYTES_MAX)?),
        onnx: Base64(read(&files.onnx, MODEL_BYTES_MAX)?),
    })
}

/// The challenger that a person means.
fn tried(models: &ModelsView, text: &str) -> Result<Digest, Failure> {
    let wanted = text.to_ascii_lowercase();
    let challenger = models.challenger.as_ref().map(|model| model.sha256);
    challenger.filter(|sha256| !wanted.is_empty() && sha256.hex().starts_with(&wanted)).ok_or_else(|| {
        Failure::new(Code::Refused, format!("no model `{text}` is tried now: `quotary model list` shows which is"))
    })
}

fn table(view: &ModelsView) -> Table {
    let columns = [
        ("ROLE", Align::Left),
        ("MODEL", Align::Left),
        ("SHA-256", Align::Left),
        ("SINCE", Align::Left),
        ("RESOURCE", Align::Left),
        ("OVER", Align::Right),
        ("FORECASTS", Align::Right),
        ("COVER .90", Align::Right),
        (".95", Align::Right),
        (".99", Align::Right),
        ("LOSS TO EWMA", Align::Right),
    ];
    let mut table = Table::new(&columns, "no model: the rungs below answer");
    let roles = [("champion", &view.champion), ("challenger", &view.challenger), ("before", &view.before)];
    for (role, model) in roles.into_iter().filter_map(|(role, model)| Some((role, model.as_ref()?))) {
        let since = model.since_ms.map_or_else(|| "-".to_owned(), present::time);
        let sha256: String = model.sha256.hex().chars().take(SHOWN_DIGITS).collect();
        let mut head = [role.to_owned(), model.name.clone(), sha256, since];
        let mut scores = model.scores.iter().filter(|score| score.forecasts > 0).peekable();
        if scores.peek().is_none() {
            table.row(with_score(std::mem::take(&mut head), None));
        }
        for score in scores {
            table.row(with_score(std::mem::take(&mut head), Some(score)));
        }
    }
    table
}

fn with_score([role, name, sha256, since]: [String; 4], score: Option<&ModelScoreView>) -> [String; 11] {
    let none = || "-".to_owned();
    let share =
        |at: usize| score.and_then(|score| score.coverage).map_or_else(none, |coverage| format!("{:.3}", coverage[at]));
    [
        role,
        name,
        sha256,
        since,
        score.map_or_else(none, |score| score.resource.clone()),
        score.map_or_else(none, |score| format!("{} h", score.hours)),
        score.map_or_else(none, |score| score.forecasts.to_string()),
        share(0),
        share(1),
        share(2),
        score.and_then(|score| score.loss_ratio_to_ewma).map_or_else(none, |ratio| format!("{ratio:.3}")),
    ]
}

fn told(view: &ModelsView) -> String {
    let mut text = String::new();
    if let Some(covered) = view.drift {
        let line =
            format!("\nForecasts drift: over the last day their 95 % lines covered {covered:.3} of what came.\n");
        text.push_str(&line);
    }
    if let (Some(contest), Some(ModelView { name, .. })) = (&view.contest, &view.challenger) {
        let may = if contest.may_promote { "may take over" } else { "may not take over yet" };
        text.push_str(&format!("\n{name} {may}: {}.\n", contest.why.join("; ")));
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::wire::ContestView;

    use super::*;

    fn view() -> ModelsView {
        let score = ModelScoreView {
            resource: "cpu_millicores".to_owned(),
            hours: 24,
            forecasts: 288,
            steps: 3400,
            coverage: Some([0.91, 0.951, 0.99]),
            loss_ratio_to_ewma: Some(0.87),
        };
        let model = |name: &str, scores: Vec<ModelScoreView>| ModelView {
            name: name.to_owned(),
            sha256: Digest::of(&[name.as_bytes()]),
            since_ms: None,
            scores,
        };
        ModelsView {
            champion: Some(model("demand-2", vec![score])),
            challenger: Some(model("site-1", vec![])),
            before: None,
            contest: Some(ContestView { may_promote: false, why: vec!["3 hours of 168".to_owned()], record: None }),
            drift: Some(0.85),
        }
    }

    #[test]
    fn models_are_shown_with_what_their_forecasts_came_to() {
        let text = table(&view()).render(false);
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(rows.len(), 2);
        for part in ["champion", "demand-2", "cpu_millicores", "24 h", "0.951", "0.870"] {
            assert!(rows[0].contains(part), "{part} in {}", rows[0]);
        }
        assert!(rows[1].contains("challenger") && rows[1].contains("site-1"), "{}", rows[1]);
        let told = told(&view());
        assert!(
            told.contains("drift") && told.contains("0.850") && told.contains("site-1 may not take over yet: 3 hours"),
            "{told}"
        );
    }

    #[test]
    fn only_what_is_tried_can_be_meant() {
        let sha256 = Digest::of(&[b"site-1"]).hex();
        assert_eq!(tried(&view(), &sha256[..6]).unwrap().hex(), sha256);
        assert!(tried(&view(), "").is_err());
        assert!(tried(&view(), &Digest::of(&[b"demand-2"]).hex()).is_err());
    }
}

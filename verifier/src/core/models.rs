//! Which models forecast and are tried: changed by operators on proof, and by a champion that drifts.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Text};
use quotary_common::id::Digest;
use quotary_common::leaf::{Decision, ModelChange, ModelChanged};
use quotary_common::reason::{Reason, Refusal};
use quotary_decide::contest::Record;
use quotary_models::{MAX_MODEL_BYTES, Model};

use super::command::Answer;
use super::load::LoadError;
use super::state::{Pending, State, Step};
use super::tables;
use crate::predict::{ModelSet, digest_of, is_same, record_key};
use crate::store::{Partition, Reader, VALUE_BYTES_MAX};

const SET_KEY: &[u8] = b"set";
/// Bytes of an ONNX file in one row.
const PART_BYTES: usize = VALUE_BYTES_MAX;

/// What is to change.
#[derive(Debug)]
pub enum ModelsChange {
    /// A model that was loaded, with its files, is tried from now on.
    Shadow {
        /// It.
        model: Arc<Model>,
        /// Its manifest as it came.
        manifest: Vec<u8>,
        /// Its ONNX file.
        onnx: Vec<u8>,
    },
    /// The challenger is tried no longer.
    Withdraw,
    /// The challenger takes the champion's place: it was proven better.
    Promote {
        /// It.
        challenger: Digest,
        /// The champion that it was proven better than.
        champion: Option<Digest>,
        /// The record that proves it: kept under its digest.
        record: Arc<[u8]>,
        /// The figures.
        why: String,
    },
    /// The model before takes its place back.
    RollBack {
        /// Why.
        why: String,
    },
}

/// Which models are in force, as it is kept. What is absent is none, or the one that is built in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct SetRow {
    #[n(0)]
    champion: Option<Digest>,
    #[n(1)]
    challenger: Option<Digest>,
    #[n(2)]
    before: Option<Digest>,
    #[n(3)]
    since_ms: u64,
    #[n(4)]
    tried_since_ms: Option<u64>,
}

impl SetRow {
    fn of(models: &ModelSet) -> Self {
        let of = |model: &Option<Arc<Model>>| model.as_deref().map(digest_of);
        Self {
            // The one that is built in, whatever version that is of.
            champion: models.champion.as_ref().filter(|model| !is_built_in(model)).map(|model| digest_of(model)),
            challenger: of(&models.challenger),
            before: of(&models.before),
            since_ms: models.since_ms,
            tried_since_ms: models.tried_since_ms.filter(|_| models.challenger.is_some()),
        }
    }

    fn names(&self, digest: &Digest) -> bool {
        [self.champion, self.challenger, self.before].contains(&Some(*digest))
    }
}

impl State {
    /// The models that were read back, or the one that is built in.
    pub fn use_models(&mut self, models: ModelSet) {
        self.models = models.clone();
        self.settings.contest.set_models(models);
    }

    /// Changes which models forecast and are tried.
    pub(super) fn change_models(
        &mut self,
        change: &ModelsChange,
        actor: &str,
        answer: Answer<()>,
        now_ms: u64,
    ) -> Step {
        let mut step = Step::default();
        let done = match change {
            ModelsChange::Shadow { model, manifest, onnx } => {
                self.shadow(&mut step, model, (manifest, onnx), (actor, now_ms))
            }
            ModelsChange::Withdraw => self.withdraw(&mut step, actor, now_ms),
            ModelsChange::Promote { challenger, champion, record, why } => {
                self.promote(&mut step, (challenger, champion.as_ref(), record), why, (actor, now_ms))
            }
            ModelsChange::RollBack { why } => self.go_back(&mut step, ModelChange::RolledBack, why, (actor, now_ms)),
        };
        step.pending = Some(Pending::Done(answer, done));
        step
    }

    /// The champion drifts: the model before it takes its place, if it is the champion still.
    pub(super) fn return_model(&mut self, champion: &Digest, covered: f64, now_ms: u64) -> Step {
        let mut step = Step::default();
        if self.models.champion.as_deref().map(digest_of) == Some(*champion) && self.models.before.is_some() {
            let why =
                format!("drift: its 95 % line covered {covered:.3} of what came in a day, 0.90 to 0.99 are allowed");
            let done = self.go_back(&mut step, ModelChange::Returned, &why, ("verifier", now_ms));
            if done.is_ok() {
                tracing::error!(%why, "the model before forecasts again");
            }
        }
        step
    }

    fn shadow(
        &mut self,
        step: &mut Step,
        model: &Arc<Model>,
        (manifest, onnx): (&[u8], &[u8]),
        told: (&str, u64),
    ) -> Result<(), Refusal> {
        if let Some(running) = &self.models.challenger {
            let name = &running.reference().name;
            let text = format!(
                "{name} is tried already: `quotary model withdraw` ends that trial, and what was recorded of it"
            );
            return Err(Refusal::new(Reason::Model, text));
        }
        if is_same(Some(model), self.models.champion.as_ref()) {
            return Err(Refusal::new(Reason::Model, "this model forecasts already: there is nothing to try"));
        }
        keep_files(step, &digest_of(model), (manifest, onnx));
        let models =
            ModelSet { challenger: Some(Arc::clone(model)), tried_since_ms: Some(told.1), ..self.models.clone() };
        let input = Some(Digest::of(&[manifest]));
        self.record_models(step, models, (ModelChange::Shadowed, model, input, "to be tried"), told);
        Ok(())
    }

    fn withdraw(&mut self, step: &mut Step, actor: &str, now_ms: u64) -> Result<(), Refusal> {
        let Some(challenger) = self.models.challenger.clone() else { return Err(no_challenger()) };
        let models = ModelSet { challenger: None, ..self.models.clone() };
        self.record_models(
            step,
            models,
            (ModelChange::Withdrawn, &challenger, None, "by an operator"),
            (actor, now_ms),
        );
        Ok(())
    }

    fn promote(
        &mut self,
        step: &mut Step,
        (digest, champion, record): (&Digest, Option<&Digest>, &[u8]),
        why: &str,
        (actor, now_ms): (&str, u64),
    ) -> Result<(), Refusal> {
        let challenger = self.models.challenger.clone().filter(|model| digest_of(model) == *digest);
        let challenger = challenger.ok_or_else(no_challenger)?;
        if self.models.champion.as_deref().map(digest_of).as_ref() != champion {
            let text = "another model forecasts now than the one that it was proven better than: the trial begins anew";
            return Err(Refusal::new(Reason::Model, text));
        }
        let proof = Digest::of(&[record]);
        let batch = std::mem::take(&mut step.batch);
        step.batch =
            batch.put(tables::MODELS, Partition::Deployment, file_key(b"proof", &proof, None), record.to_vec());
        if let Some(built_in) = self.models.champion.as_ref().filter(|model| is_built_in(model)) {
            // The next version may have another built in: the way back must not depend on it.
            let (manifest, onnx) = quotary_models::shipped_files();
            keep_files(step, &digest_of(built_in), (manifest, onnx));
        }
        let before = self.models.champion.clone();
        let champion = Some(Arc::clone(&challenger));
        let models = ModelSet { champion, challenger: None, tried_since_ms: None, before, since_ms: now_ms };
        self.record_models(step, models, (ModelChange::Promoted, &challenger, Some(proof), why), (actor, now_ms));
        Ok(())
    }

    fn go_back(
        &mut self,
        step: &mut Step,
        change: ModelChange,
        why: &str,
        (actor, now_ms): (&str, u64),
    ) -> Result<(), Refusal> {
        let Some((champion, before)) = self.models.champion.clone().zip(self.models.before.clone()) else {
            let text = "there is no model to go back to: no other has forecast before this one";
            return Err(Refusal::new(Reason::Model, text));
        };
        // What forecasts is not tried.
        let challenger = self.models.challenger.clone().filter(|one| !is_same(Some(one), Some(&before)));
        let tried_since_ms = self.models.tried_since_ms;
        let models = ModelSet { champion: Some(before), challenger, tried_since_ms, before: None, since_ms: now_ms };
        self.record_models(step, models, (change, &champion, None, why), (actor, now_ms));
        Ok(())
    }

    /// The row, the leaf, and the rows of files that nobody names any more.
    fn record_models(
        &mut self,
        step: &mut Step,
        models: ModelSet,
        (change, model, input, why): (ModelChange, &Arc<Model>, Option<Digest>, &str),
        (actor, now_ms): (&str, u64),
    ) {
        let (old, new) = (SetRow::of(&self.models), SetRow::of(&models));
        step.put(tables::MODELS, Partition::Deployment, SET_KEY, &new);
        if (old.champion, old.challenger) != (new.champion, new.challenger) && old.challenger.is_some() {
            step.delete(tables::MODELS, Partition::Deployment, record_key(&self.models));
        }
        for gone in [old.champion, old.challenger, old.before].into_iter().flatten().filter(|digest| !new.names(digest))
        {
            step.delete(tables::MODELS, Partition::Deployment, file_key(b"manifest", &gone, None));
            for part in 0..u8::try_from(MAX_MODEL_BYTES.div_ceil(PART_BYTES)).unwrap_or(u8::MAX) {
                step.delete(tables::MODELS, Partition::Deployment, file_key(b"onnx", &gone, Some(part)));
            }
        }
        let changed = ModelChanged {
            change,
            model: digest_of(model),
            name: Text::lossy(&model.reference().name),
            champion: models.champion.as_deref().map(digest_of),
            input,
            why: Text::lossy(why),
        };
        step.leaf(now_ms, actor, Decision::ModelChanged(changed));
        self.models = models.clone();
        step.models = Some(models);
    }
}

/// Rows of a model's two files.
fn keep_files(step: &mut Step, digest: &Digest, (manifest, onnx): (&[u8], &[u8])) {
    let mut batch = std::mem::take(&mut step.batch);
    batch = batch.put(tables::MODELS, Partition::Deployment, file_key(b"manifest", digest, None), manifest.to_vec());
    for (part, bytes) in (0..=u8::MAX).zip(onnx.chunks(PART_BYTES)) {
        let key = file_key(b"onnx", digest, Some(part));
        batch = batch.put(tables::MODELS, Partition::Deployment, key, bytes.to_vec());
    }
    step.batch = batch;
}

fn is_built_in(model: &Arc<Model>) -> bool {
    Digest::of(&[quotary_models::shipped_files().1]) == digest_of(model)
}

fn no_challenger() -> Refusal {
    Refusal::new(Reason::NotFound, "that model is not tried now: `quotary model list` shows which is")
}

fn file_key(kind: &[u8], digest: &Digest, part: Option<u8>) -> Vec<u8> {
    [kind, digest.as_bytes(), part.as_slice()].concat()
}

/// The models that were in force at the last commit. `built_in` forecasts where none was chosen, or the one that was cannot be used; what cannot be
/// used is told and left out, never a reason not to start.
///
/// # Errors
/// The store cannot be read, or a row does not hold its form.
pub fn load_models(store: &dyn Reader, built_in: Option<Arc<Model>>) -> Result<ModelSet, LoadError> {
    let row = store.get(tables::MODELS, Partition::Deployment, SET_KEY).map_err(LoadError::Store)?;
    let Some(row) = row else { return Ok(ModelSet { champion: built_in, ..ModelSet::default() }) };
    let row: SetRow = cbor::from_bytes(&row, VALUE_BYTES_MAX)
        .map_err(|source| LoadError::Row { table: tables::MODELS.name(), source })?;
    let model = |digest: Option<Digest>| -> Result<Option<Arc<Model>>, LoadError> {
        let Some(digest) = digest else { return Ok(None) };
        match built_in.as_ref().filter(|model| digest_of(model) == digest) {
            Some(model) => Ok(Some(Arc::clone(model))),
            None => load_files(store, &digest),
        }
    };
    let (champion, challenger, before) = (model(row.champion)?, model(row.challenger)?, model(row.before)?);
    if row.champion.is_some() && champion.is_none() {
        tracing::error!(
            "the model that was promoted cannot be used: the one before, or the one that is built in, forecasts"
        );
        let champion = before.or_else(|| built_in.clone());
        return Ok(ModelSet { champion, challenger, tried_since_ms: row.tried_since_ms, before: None, since_ms: 0 });
    }
    let champion = champion.or_else(|| built_in.clone());
    Ok(ModelSet { champion, challenger, tried_since_ms: row.tried_since_ms, before, since_ms: row.since_ms })
}

fn load_files(store: &dyn Reader, digest: &Digest) -> Result<Option<Arc<Model>>, LoadError> {
    let get = |key: Vec<u8>| store.get(tables::MODELS, Partition::Deployment, &key).map_err(LoadError::Store);
    let manifest = get(file_key(b"manifest", digest, None))?;
    let mut onnx = Vec::new();
    for part in 0..=u8::MAX {
        let Some(bytes) = get(file_key(b"onnx", digest, Some(part)))? else { break };
        onnx.extend(bytes);
    }
    let Some(manifest) = manifest else {
        tracing::error!(model = %digest, "the files of a model are not there: it is left out");
        return Ok(None);
    };
    match Model::load(&manifest, &onnx) {
        Ok(model) if digest_of(&model) == *digest => Ok(Some(Arc::new(model))),
        Ok(_) => {
            tracing::error!(model = %digest, "the files of a model are another's: it is left out");
            Ok(None)
        }
        Err(error) => {
            tracing::error!(model = %digest, error = &error as &dyn std::error::Error, "a model cannot be used: it is left out");
            Ok(None)
        }
    }
}

/// What is kept of the contest of these models; an empty record where nothing is, or what is there does not read.
///
/// # Errors
/// The store cannot be read.
pub fn load_record(store: &dyn Reader, models: &ModelSet) -> Result<Record, LoadError> {
    let kept = store.get(tables::MODELS, Partition::Deployment, &record_key(models)).map_err(LoadError::Store)?;
    let read = kept.map(|bytes| Record::from_bytes(&bytes)).transpose();
    Ok(read
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "what was recorded of a contest does not read: it begins anew");
            None
        })
        .unwrap_or_default())
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;

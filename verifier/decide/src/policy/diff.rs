//! Two documents, field by field: what changes, in words and as data.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::limits::POLICY_THRESHOLDS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::Terms;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field, as a path in the document: `limit.memory_bytes`, `thresholds[1].for_s`.
    pub field: String,
    /// What it is in the old document; absent: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What it is in the new one; absent: it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

impl std::fmt::Display for FieldChange {
    /// `limit.memory_bytes: 536870912 -> 268435456 (-50 %)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = |value: &Option<Value>| match value {
            None => "none".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        write!(f, "{}: {} -> {}", self.field, told(&self.old), told(&self.new))?;
        let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_u64).map(i128::from);
        let is_amount = ["guarantee.", "limit.", "shaping.slew"].iter().any(|table| self.field.starts_with(table));
        match (number(&self.old), number(&self.new)) {
            (Some(old), Some(new)) if is_amount && old > 0 => write!(f, " ({:+} %)", (new - old) * 100 / old),
            _ => Ok(()),
        }
    }
}

/// The fields in which two policies differ, in the order of their paths; none stands for a policy that is not there.
pub fn diff(old: Option<&Terms>, new: Option<&Terms>) -> Vec<FieldChange> {
    differences(fields_of(old), fields_of(new))
}

/// The fields in which two documents differ, each given by its fields' paths and values, in the order of their paths.
pub fn differences(mut old: BTreeMap<String, Value>, mut new: BTreeMap<String, Value>) -> Vec<FieldChange> {
    let mut names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let change = |field: String| {
        let (old, new) = (old.remove(&field), new.remove(&field));
        (old != new).then_some(FieldChange { field, old, new })
    };
    names.into_iter().filter_map(change).collect()
}

/// A document that differs from `old` as told, without comments; empty when nothing is left. It is read like any other before it counts.
///
/// # Errors
/// [`ApplyError`] when the changes are not from this document, or lead to none.
pub fn apply(old: Option<&Terms>, changes: &[FieldChange]) -> Result<String, ApplyError> {
    let mut fields = fields_of(old);
    for change in changes {
        let was = match &change.new {
            Some(value) => fields.insert(change.field.clone(), value.clone()),
            None => fields.remove(&change.field),
        };
        if was != change.old {
            let name = Name::lossy(&change.field);
            return Err(ApplyError::Differs(name));
        }
    }
    if fields.is_empty() {
        return Ok(String::new());
    }
    // A selector of everything has no field, and must be there.
    let mut root = Value::Object(Map::from_iter([("select".to_owned(), Value::Object(Map::new()))]));
    for (field, value) in fields {
        let slot = slot(&mut root, &field).ok_or_else(|| ApplyError::NoField(Name::lossy(&field)))?;
        *slot = value;
    }
    Ok(toml::to_string(&root)?)
}

/// Changes that do not go with a document.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The field is not what the change says it is.
    #[error("{0} is not what the change was made from")]
    Differs(Name),
    /// Not a field's path.
    #[error("{0} is no field")]
    NoField(Name),
    /// A value that TOML has not.
    #[error("the document cannot be written as TOML")]
    Write(#[from] toml::ser::Error),
}

/// Every field that has a value, by its path; a list of plain values is one field.
fn fields_of(terms: Option<&Terms>) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    // Terms have text keys and plain values only: they always have a JSON form.
    if let Some(Ok(value)) = terms.map(serde_json::to_value) {
        flatten(String::new(), value, &mut out);
    }
    out
}

fn flatten(path: String, value: Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(path, value, out);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.into_iter().enumerate() {
                flatten(format!("{path}[{index}]"), item, out);
            }
        }
        plain => drop(out.insert(path, plain)),
    }
}

/// Where a path leads in a document that is put together. A gap that stays in a list is nothing that TOML has.
fn slot<'v>(root: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let mut at = root;
    for part in path.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, Some(index.parse::<usize>().ok()?)),
            None => (part, None),
        };
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut()?.entry(name).or_insert(Value::Null);
        if let Some(index) = index {
            if at.is_null() {
                *at = Value::Array(Vec::new());
            }
            let items = at.as_array_mut()?;
            if index < POLICY_THRESHOLDS_MAX && items.len() <= index {
                items.resize(index + 1, Value::Null);
            }
            at = items.get_mut(index)?;
        }
    }
    Some(at)
}

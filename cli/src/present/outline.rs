//! A JSON value as indented lines, for what has no table of its own.

use serde_json::Value;

use super::clean;

/// Deepest nesting that is shown; our own values have less.
const DEPTH_MAX: usize = 8;

/// The value as `name  value` lines; nested ones are indented below their name.
pub fn outline(value: &Value) -> String {
    let mut out = String::new();
    lines(value, 0, &mut out);
    out
}

fn lines(value: &Value, depth: usize, out: &mut String) {
    if depth > DEPTH_MAX {
        return;
    }
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            let column = map.iter().filter(|(_, v)| scalar(v).is_some()).map(|(k, _)| k.len()).max().unwrap_or(0);
            for (name, value) in map {
                match scalar(value) {
                    Some(text) => out.push_str(&format!("{indent}{name:column$}  {text}\n")),
                    None => {
                        out.push_str(&format!("{indent}{name}:\n"));
                        lines(value, depth + 1, out);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match scalar(item) {
                    Some(text) => out.push_str(&format!("{indent}- {text}\n")),
                    None => {
                        out.push_str(&format!("{indent}-\n"));
                        lines(item, depth + 1, out);
                    }
                }
            }
        }
        other => out.push_str(&format!("{indent}{}\n", scalar(other).unwrap_or_default())),
    }
}

/// What fits on its name's line.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("-".to_owned()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(clean(text)),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_stand_beside_their_names_and_nested_ones_below() {
        let value =
            json!({"a": 1, "longer": "x\u{1b}", "list": [], "nested": {"b": true}, "items": [{"c": null}, "d"]});
        let expected = "\
a       1
items:
  -
    c  -
  - d
list    none
longer  x?
nested:
  b  yes
";
        let text = outline(&value);
        assert_eq!(text.lines().count(), expected.lines().count(), "{text}");
        for line in expected.lines() {
            assert!(text.lines().any(|l| l == line), "`{line}` in\n{text}");
        }
    }
}

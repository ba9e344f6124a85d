//! `${…}` in cases: what the runner knows and a case can't.

use crate::Result;
use serde_json::Value;

/// Replaces every `${NAME}` in all strings of `value`. A string that is nothing else becomes the
/// value itself, whatever type it has.
///
/// # Errors
/// A variable has no value.
pub fn expand(value: &Value, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value> {
    Ok(match value {
        Value::String(text) => expand_string(text, lookup)?,
        Value::Array(array) => {
            Value::Array(array.iter().map(|item| expand(item, lookup)).collect::<Result<_>>()?)
        }
        Value::Object(object) => Value::Object(
            object
                .iter()
                .map(|(key, value)| Ok((expand_text(key, lookup)?, expand(value, lookup)?)))
                .collect::<Result<_>>()?,
        ),
        other => other.clone(),
    })
}

/// The same for text.
///
/// # Errors
/// A variable has no value.
pub fn expand_text(text: &str, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<String> {
    Ok(match expand_string(text, lookup)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

fn expand_string(text: &str, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value> {
    let value_of = |name: &str| lookup(name).ok_or_else(|| format!("the variable ${{{name}}} has no value"));
    if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        && !name.contains('}')
    {
        return value_of(name);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let end = from.find('}').ok_or_else(|| format!("{text:?} has a ${{ without }}"))?;
        out.push_str(before);
        match value_of(&from[2..end])? {
            Value::String(text) => out.push_str(&text),
            other => out.push_str(&other.to_string()),
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

/// The value at a path such as `ips.0.address`.
#[must_use]
pub fn at_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Array(array) => array.get(key.parse::<usize>().ok()?),
        Value::Object(object) => object.get(key),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variable_keeps_its_type_where_it_stands_alone() {
        let lookup = |name: &str| (name == "n").then(|| json!(5));
        assert_eq!(
            expand(&json!({"a": "${n}", "b": ["x${n}y"]}), &lookup),
            Ok(json!({"a": 5, "b": ["x5y"]}))
        );
        assert!(expand(&json!("${m}"), &lookup).unwrap_err().contains("${m}"));
        assert_eq!(at_path(&json!({"ips": [{"address": 1}]}), "ips.0.address"), Some(&json!(1)));
    }
}

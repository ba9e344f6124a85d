//! Patterns for JSON: how a case describes an answer or the kernel's state without naming all of it.
//!
//! A pattern is JSON itself. An object matches an object that has at least its keys, an array matches
//! an array of the same length, element by element, anything else matches what is equal to it. An
//! object whose keys begin with `$` is a condition:
//!
//! | condition | holds if |
//! |---|---|
//! | `$absent: true` | the key is absent |
//! | `$any: true` | the key is there, whatever it holds |
//! | `$regex: TEXT` | the value is a string in which the expression is found |
//! | `$contains: [P, …]` | an element (of an array) matches each pattern |
//! | `$lacks: [P, …]` | no element (of an array) matches any of the patterns |
//! | `$length: N` | the array, object or string has this length |
//! | `$oneOf: [P, …]` | one of the patterns matches |
//! | `$not: P` | the pattern does not match |
//! | `$equal: V` | the value is equal to V, further keys are not allowed |
//! | `$atLeast: N`, `$atMost: N` | the number is in these bounds |
//! | `$is: KIND` | the value is a `mac`, `cidr`, `ip`, `uint`, `string` or `object` |

use serde_json::{Map, Value};
use std::net::IpAddr;

/// The first place where a value differs from a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The place, such as `ips.0.address`; empty for the whole value.
    pub path: String,
    /// What the pattern wants there.
    pub expected: String,
    /// What is there.
    pub actual: String,
}

/// Compares a value with a pattern.
///
/// # Errors
/// The first difference.
pub fn compare(pattern: &Value, actual: &Value) -> Result<(), Difference> {
    at("", pattern, Some(actual))
}

/// Compares what is at `path`; `None` is a key that is absent.
fn at(path: &str, pattern: &Value, actual: Option<&Value>) -> Result<(), Difference> {
    let differs = || {
        Err(Difference {
            path: path.to_owned(),
            expected: wanted(pattern),
            actual: actual.map_or("nothing: the key is absent".to_owned(), Value::to_string),
        })
    };
    if let Value::Object(object) = pattern
        && object.keys().any(|key| key.starts_with('$'))
    {
        return conditions(path, object, actual);
    }
    let Some(actual) = actual else { return differs() };
    match (pattern, actual) {
        (Value::Object(expected), Value::Object(object)) => {
            expected.iter().try_for_each(|(key, pattern)| at(&join(path, key), pattern, object.get(key)))
        }
        (Value::Array(expected), Value::Array(array)) if expected.len() == array.len() => {
            expected.iter().zip(array).enumerate().try_for_each(|(index, (pattern, value))| {
                at(&join(path, &index.to_string()), pattern, Some(value))
            })
        }
        _ if pattern == actual => Ok(()),
        _ => differs(),
    }
}

fn conditions(path: &str, conditions: &Map<String, Value>, actual: Option<&Value>) -> Result<(), Difference> {
    for (name, operand) in conditions {
        if !holds(name, operand, actual) {
            return Err(Difference {
                path: path.to_owned(),
                expected: format!("{name} {operand}"),
                actual: actual.map_or("nothing: the key is absent".to_owned(), Value::to_string),
            });
        }
    }
    Ok(())
}

fn holds(name: &str, operand: &Value, actual: Option<&Value>) -> bool {
    let matches = |pattern: &Value| at("", pattern, actual).is_ok();
    let Some(value) = actual else {
        return match name {
            "$absent" => operand == &Value::Bool(true),
            "$not" => !matches(operand),
            "$oneOf" => list(operand).iter().any(matches),
            _ => false,
        };
    };
    let element = |pattern: &Value| {
        value.as_array().is_some_and(|array| array.iter().any(|item| at("", pattern, Some(item)).is_ok()))
    };
    match name {
        "$absent" => operand == &Value::Bool(false),
        "$any" => true,
        "$regex" => {
            let expression = operand.as_str().and_then(|text| regex_lite::Regex::new(text).ok());
            value.as_str().zip(expression).is_some_and(|(text, expression)| expression.is_match(text))
        }
        "$contains" => list(operand).iter().all(element),
        "$lacks" => value.is_array() && !list(operand).iter().any(element),
        "$length" => length(value).is_some_and(|length| operand.as_u64() == Some(length as u64)),
        "$oneOf" => list(operand).iter().any(matches),
        "$not" => !matches(operand),
        "$equal" => operand == value,
        "$atLeast" => value.as_f64().zip(operand.as_f64()).is_some_and(|(value, limit)| value >= limit),
        "$atMost" => value.as_f64().zip(operand.as_f64()).is_some_and(|(value, limit)| value <= limit),
        "$is" => is(operand.as_str().unwrap_or_default(), value),
        _ => false,
    }
}

/// The names of the conditions of a pattern that don't exist: a mistake in a case.
#[must_use]
pub fn unknown_conditions(pattern: &Value) -> Vec<String> {
    const KNOWN: [&str; 12] = [
        "$absent",
        "$any",
        "$regex",
        "$contains",
        "$lacks",
        "$length",
        "$oneOf",
        "$not",
        "$equal",
        "$atLeast",
        "$atMost",
        "$is",
    ];
    let mut unknown = Vec::new();
    match pattern {
        Value::Object(object) => {
            for (key, value) in object {
                if key.starts_with('$') && !KNOWN.contains(&key.as_str()) {
                    unknown.push(key.clone());
                }
                unknown.extend(unknown_conditions(value));
            }
        }
        Value::Array(array) => unknown.extend(array.iter().flat_map(unknown_conditions)),
        _ => {}
    }
    unknown
}

/// Whether a value is of a kind that JSON has no type for.
#[must_use]
pub fn is(kind: &str, value: &Value) -> bool {
    let text = value.as_str();
    match kind {
        "mac" => text.is_some_and(is_mac),
        "cidr" => text.is_some_and(is_cidr),
        "ip" => text.is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "uint" => value.as_u64().is_some(),
        "string" => text.is_some(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn is_mac(text: &str) -> bool {
    let groups: Vec<&str> = text.split(':').collect();
    groups.len() >= 6 && groups.iter().all(|group| group.len() == 2 && u8::from_str_radix(group, 16).is_ok())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(array) => Some(array.len()),
        Value::Object(object) => Some(object.len()),
        Value::String(text) => Some(text.len()),
        _ => None,
    }
}

/// An operand that may be one pattern or a list of them.
fn list(operand: &Value) -> &[Value] {
    operand.as_array().map_or(std::slice::from_ref(operand), Vec::as_slice)
}

fn wanted(pattern: &Value) -> String {
    match pattern {
        Value::Array(array) => format!("a list of {} like {pattern}", array.len()),
        Value::Object(_) => format!("an object like {pattern}"),
        other => other.to_string(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn difference(pattern: Value, actual: Value) -> String {
        let found = compare(&pattern, &actual).expect_err("this must not match");
        format!("{}: {} / {}", found.path, found.expected, found.actual)
    }

    #[test]
    fn an_object_may_have_more_keys_than_its_pattern() {
        let actual = json!({"name": "eth0", "mtu": 1500, "flags": ["UP", "LOWER_UP"]});
        assert_eq!(compare(&json!({"mtu": 1500, "flags": {"$contains": "UP"}}), &actual), Ok(()));
        assert_eq!(difference(json!({"mtu": 1400}), actual.clone()), "mtu: 1400 / 1500");
        assert_eq!(
            difference(json!({"mac": {"$is": "mac"}}), actual),
            "mac: $is \"mac\" / nothing: the key is absent"
        );
    }

    #[test]
    fn an_array_matches_element_by_element() {
        assert_eq!(compare(&json!([1, {"a": 1}]), &json!([1, {"a": 1, "b": 2}])), Ok(()));
        assert_eq!(difference(json!({"x": [1, {"a": 1}]}), json!({"x": [1, {"a": 2}]})), "x.1.a: 1 / 2");
        assert!(difference(json!([1]), json!([1, 2])).contains("a list of 1"));
    }

    #[test]
    fn every_condition_holds_and_fails() {
        let table = [
            (json!({"k": {"$absent": true}}), json!({}), json!({"k": 1})),
            (json!({"k": {"$any": true}}), json!({"k": null}), json!({})),
            (json!({"$regex": "^ab+$"}), json!("abb"), json!("ac")),
            (json!({"$contains": [{"a": 1}]}), json!([{"a": 2}, {"a": 1}]), json!([{"a": 2}])),
            (json!({"$lacks": [{"a": 1}]}), json!([{"a": 2}]), json!([{"a": 1}])),
            (json!({"$length": 2}), json!([1, 2]), json!([1])),
            (json!({"$oneOf": [1, 2]}), json!(2), json!(3)),
            (json!({"$not": {"a": 1}}), json!({"a": 2}), json!({"a": 1})),
            (json!({"$equal": {"a": 1}}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"$atLeast": 2, "$atMost": 3}), json!(2), json!(4)),
            (json!({"$is": "cidr"}), json!("fd00::1/64"), json!("10.0.0.1/33")),
            (json!({"$is": "mac"}), json!("02:00:00:00:00:0a"), json!("02:00:00:00:00")),
            (json!({"$is": "ip"}), json!("::1"), json!("::1/64")),
            (json!({"$is": "uint"}), json!(7), json!(-7)),
        ];
        for (pattern, good, bad) in table {
            assert_eq!(compare(&pattern, &good), Ok(()), "{pattern} must match {good}");
            assert!(compare(&pattern, &bad).is_err(), "{pattern} must not match {bad}");
        }
    }

    #[test]
    fn a_condition_that_does_not_exist_is_found() {
        assert_eq!(unknown_conditions(&json!({"a": [{"$regexp": "x"}]})), ["$regexp"]);
        assert!(unknown_conditions(&json!({"a": [{"$regex": "x"}]})).is_empty());
    }
}

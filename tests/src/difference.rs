use std::fmt;

use serde_json::Value;

/// One place at which two observations differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Keys and positions, such as `/after add/host/links/cni0/mtu`.
    pub path: String,
    /// What the peer's observation has there.
    pub theirs: Value,
    /// What ours has.
    pub ours: Value,
}

impl Difference {
    /// All differences between two observations. `"dns": {}` says as much as no `dns` at all.
    pub fn all(theirs: &Value, ours: &Value) -> Vec<Difference> {
        let mut found = Vec::new();
        walk(theirs, ours, String::new(), &mut found);
        found
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: theirs {}, ours {}", self.path, self.theirs, self.ours)
    }
}

fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn walk(theirs: &Value, ours: &Value, path: String, found: &mut Vec<Difference>) {
    if says_nothing(theirs) && says_nothing(ours) {
        return;
    }
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                walk(value, right.get(key).unwrap_or(&Value::Null), format!("{path}/{key}"), found);
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                walk(&Value::Null, value, format!("{path}/{key}"), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                walk(left, right, format!("{path}/{index}"), found);
            }
        }
        (left, right) if left != right => {
            found.push(Difference { path, theirs: left.clone(), ours: right.clone() });
        }
        _ => {}
    }
}

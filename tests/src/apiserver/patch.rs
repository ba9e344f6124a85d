use serde_json::{Map, Value};

/// RFC 7386: what is in `patch` replaces, `null` removes.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    combine(object, patch, false);
}

/// Kubernetes' merge for its own kinds: as [`merge`], but elements of the lists that it knows by
/// a key are merged one by one.
pub(super) fn strategic(object: &mut Value, patch: &Value) {
    combine(object, patch, true);
}

fn combine(object: &mut Value, patch: &Value, by_key: bool) {
    let Value::Object(changes) = patch else {
        patch.clone_into(object);
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    for (name, change) in changes {
        match (change, by_key.then(|| list_key(name)).flatten()) {
            (Value::Null, _) => drop(fields.remove(name)),
            // Orders for the sender's own convenience; the order of elements means nothing here.
            _ if by_key && name.starts_with('$') => {}
            (Value::Array(changed), Some(key)) => {
                combine_lists(fields.entry(name).or_insert_with(|| Value::Array(Vec::new())), changed, key);
            }
            _ => combine(fields.entry(name).or_insert(Value::Null), change, by_key),
        }
    }
}

/// The key of the elements of the lists of a pod that have one.
fn list_key(name: &str) -> Option<&'static str> {
    match name {
        "conditions" => Some("type"),
        "containers" | "initContainers" | "volumes" => Some("name"),
        _ => None,
    }
}

fn combine_lists(list: &mut Value, changed: &[Value], key: &str) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Value::Array(list) = list else { return };
    for change in changed {
        match list.iter_mut().find(|element| element[key] == change[key]) {
            Some(element) => combine(element, change, true),
            None => list.push(change.clone()),
        }
    }
}

/// RFC 6902, without `move` and `copy`.
pub(super) fn json(object: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Array(operations) = patch else {
        return Err("a JSON patch is a list".to_owned());
    };
    operations.iter().try_for_each(|operation| apply(object, operation))
}

fn apply(object: &mut Value, operation: &Value) -> Result<(), String> {
    let kind = operation["op"].as_str().unwrap_or_default();
    let pointer = operation["path"].as_str().ok_or("an operation without a path")?;
    let value = operation.get("value").cloned();
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        return Err(format!("no object has the path {pointer:?}"));
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    let missing = || format!("the path {pointer:?} does not exist");
    match (kind, object.pointer_mut(parent).ok_or_else(missing)?) {
        ("test", _) => {
            let found = object.pointer(pointer).ok_or_else(missing)?;
            if Some(found) == value.as_ref() { Ok(()) } else { Err(format!("{pointer} is {found}")) }
        }
        ("remove", Value::Object(fields)) => fields.remove(&last).map(drop).ok_or_else(missing),
        ("replace", Value::Object(fields)) => {
            *fields.get_mut(&last).ok_or_else(missing)? = value.ok_or("replace without a value")?;
            Ok(())
        }
        ("add", Value::Object(fields)) => {
            fields.insert(last, value.ok_or("add without a value")?);
            Ok(())
        }
        ("add", Value::Array(list)) if last == "-" => {
            list.push(value.ok_or("add without a value")?);
            Ok(())
        }
        ("remove" | "replace", Value::Array(list)) => {
            let at = last.parse().ok().filter(|at| *at < list.len()).ok_or_else(missing)?;
            match value {
                Some(value) if kind == "replace" => list[at] = value,
                _ => drop(list.remove(at)),
            }
            Ok(())
        }
        (kind, _) => Err(format!("can't {kind:?} at {pointer:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(how: fn(&mut Value, &Value), object: Value, patch: Value) -> Value {
        let mut object = object;
        how(&mut object, &patch);
        object
    }

    #[test]
    fn a_merge_replaces_lists_and_removes_nulls() {
        // RFC 7386, section 3.
        let object = json!({"title": "a", "author": {"given": "b", "family": "c"}, "tags": ["x", "y"]});
        let patch = json!({"title": "A", "author": {"family": null}, "tags": ["x"], "new": {"n": null}});
        let merged = json!({"title": "A", "author": {"given": "b"}, "tags": ["x"], "new": {}});
        assert_eq!(patched(merge, object, patch), merged);
    }

    #[test]
    fn a_strategic_merge_merges_known_lists_by_key() {
        let object = json!({"conditions": [{"type": "A", "status": "1"}], "tags": ["x", "y"]});
        let patch = json!({"conditions": [{"type": "A", "status": "2"}, {"type": "B"}], "tags": ["z"],
                           "$setElementOrder/conditions": []});
        let merged = json!({"conditions": [{"type": "A", "status": "2"}, {"type": "B"}], "tags": ["z"]});
        assert_eq!(patched(strategic, object, patch), merged);
    }

    #[test]
    fn a_json_patch_is_applied_in_order() {
        let mut object = json!({"a": {"b/c": 1, "list": [1, 2]}});
        let patch = json!([
            {"op": "test", "path": "/a/b~1c", "value": 1},
            {"op": "replace", "path": "/a/b~1c", "value": 2},
            {"op": "add", "path": "/a/d", "value": 3},
            {"op": "add", "path": "/a/list/-", "value": 3},
            {"op": "remove", "path": "/a/list/0"},
        ]);
        json(&mut object, &patch).unwrap();
        assert_eq!(object, json!({"a": {"b/c": 2, "d": 3, "list": [2, 3]}}));
        for wrong in [
            json!({}),
            json!([{"op": "test", "path": "/a/d", "value": 4}]),
            json!([{"op": "replace", "path": "/x/y", "value": 4}]),
            json!([{"op": "remove", "path": "/a/x"}]),
            json!([{"op": "fly", "path": "/a/d"}]),
        ] {
            json(&mut object, &wrong).unwrap_err();
        }
    }
}

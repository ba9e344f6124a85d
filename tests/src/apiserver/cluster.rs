use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kinds::{Kind, PODS, Target};
use super::patch;
use super::status::Status;

/// The objects of a cluster, each with the version that its last change gave it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    objects: BTreeMap<Key, Value>,
    version: u64,
}

/// API version, plural, namespace, name.
type Key = (String, &'static str, String, String);

fn key(kind: &'static Kind, namespace: &str, name: &str) -> Key {
    (kind.api_version(), kind.plural, namespace.to_owned(), name.to_owned())
}

/// How a patch is written, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchForm {
    Merge,
    Strategic,
    Json,
}

impl PatchForm {
    pub(super) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/json-patch+json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Cluster {
    pub(super) fn get(&self, target: &Target, name: &str) -> Result<Value, Status> {
        self.objects
            .get(&key(target.kind, &target.namespace, name))
            .cloned()
            .ok_or_else(|| Status::not_found(target.kind, name))
    }

    pub(super) fn list(&self, target: &Target) -> Value {
        let Target { kind, namespace, .. } = target;
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((version, plural, within, _), _)| {
                *plural == kind.plural
                    && *version == kind.api_version()
                    && (namespace.is_empty() || within == namespace)
            })
            .map(|(_, object)| object)
            .collect();
        json!({
            "kind": format!("{}List", kind.kind),
            "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": self.version.to_string() },
            "items": items,
        })
    }

    /// Keeps a new object; `namespace` is that of the request's path.
    pub(super) fn create(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Status> {
        let next = self.version + 1;
        let metadata = metadata(&mut object)?;
        let name = match (metadata.get("name"), metadata.get("generateName")) {
            (Some(Value::String(name)), _) if !name.is_empty() => name.clone(),
            (_, Some(Value::String(start))) => format!("{start}{next:05}"),
            _ => {
                return Err(Status::new(
                    422,
                    "metadata.name: Required value: name or generateName is required",
                ));
            }
        };
        let within = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
        let namespace = match (kind.namespaced, namespace, within) {
            (false, _, _) => String::new(),
            (true, path, "") => path.to_owned(),
            (true, path, within) if path.is_empty() || path == within => within.to_owned(),
            _ => {
                return Err(Status::new(
                    400,
                    "the namespace of the object does not match that of the request",
                ));
            }
        };
        let key = key(kind, &namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(Status::exists(kind, &name));
        }
        metadata.insert("name".to_owned(), name.into());
        if kind.namespaced {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        metadata.entry("uid").or_insert_with(|| format!("00000000-0000-4000-8000-{next:012x}").into());
        metadata.entry("creationTimestamp").or_insert_with(|| "2026-01-01T00:00:00Z".into());
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        Ok(self.keep(key, object))
    }

    pub(super) fn delete(&mut self, target: &Target, name: &str) -> Result<Value, Status> {
        self.objects
            .remove(&key(target.kind, &target.namespace, name))
            .ok_or_else(|| Status::not_found(target.kind, name))
    }

    /// PUT: the whole object, which must be the newest where it says a version.
    pub(super) fn update(&mut self, target: &Target, name: &str, new: Value) -> Result<Value, Status> {
        let old = self.get(target, name)?;
        self.replace(target, name, &old, new)
    }

    pub(super) fn patch(
        &mut self,
        target: &Target,
        name: &str,
        form: PatchForm,
        changes: &Value,
    ) -> Result<Value, Status> {
        let old = self.get(target, name)?;
        let mut new = old.clone();
        match form {
            PatchForm::Merge => patch::merge(&mut new, changes),
            PatchForm::Strategic if target.kind.is_custom() => {
                return Err(Status::new(415, "strategic merge patches are not for custom resources"));
            }
            PatchForm::Strategic => patch::strategic(&mut new, changes),
            PatchForm::Json => {
                patch::json(&mut new, changes).map_err(|why| Status::new(422, why))?;
            }
        }
        self.replace(target, name, &old, new)
    }

    fn replace(&mut self, target: &Target, name: &str, old: &Value, mut new: Value) -> Result<Value, Status> {
        let kind = target.kind;
        let metadata = metadata(&mut new)?;
        for (field, why) in [
            (
                "resourceVersion",
                "the object has been modified; please apply your changes to the latest version and try again",
            ),
            ("uid", "Precondition failed: UID in precondition, UID in object meta"),
        ] {
            let given = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
            if !given.is_empty() && given != old["metadata"][field] {
                return Err(Status::conflict(kind, name, why));
            }
        }
        for field in ["uid", "creationTimestamp", "name", "namespace"] {
            match &old["metadata"][field] {
                Value::Null => drop(metadata.remove(field)),
                kept => drop(metadata.insert(field.to_owned(), kept.clone())),
            }
        }
        // The status and all else are written through different doors, but for labels and
        // annotations, which both write.
        if kind == PODS {
            let kept = if target.subresource.is_some() { "spec" } else { "status" };
            new[kept] = old[kept].clone();
        }
        new["apiVersion"] = kind.api_version().into();
        new["kind"] = kind.kind.into();
        Ok(self.keep(key(kind, &target.namespace, name), new))
    }

    fn keep(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(key, object.clone());
        object
    }
}

fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    let Value::Object(fields) = object else {
        return Err(Status::new(400, "the object is no JSON object"));
    };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    metadata.as_object_mut().ok_or_else(|| Status::new(400, "metadata is no object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(subresource: Option<&str>) -> Target {
        Target {
            kind: PODS,
            namespace: "default".to_owned(),
            name: Some("p".to_owned()),
            subresource: subresource.map(str::to_owned),
        }
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let object = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
        cluster.create(PODS, "default", object).unwrap();
        cluster
    }

    #[test]
    fn only_the_newest_version_can_be_replaced() {
        let mut cluster = cluster();
        let read = cluster.get(&pod(None), "p").unwrap();
        cluster.update(&pod(None), "p", read.clone()).unwrap();
        assert_eq!(cluster.update(&pod(None), "p", read).unwrap_err().code, 409);
        let anyhow = json!({"metadata": {"name": "p"}});
        cluster.update(&pod(None), "p", anyhow).unwrap();
    }

    #[test]
    fn a_patch_for_another_uid_is_a_conflict() {
        let mut cluster = cluster();
        let changes = json!({"metadata": {"uid": "another"}});
        assert_eq!(cluster.patch(&pod(None), "p", PatchForm::Merge, &changes).unwrap_err().code, 409);
    }

    #[test]
    fn the_status_door_leaves_the_spec_and_writes_annotations() {
        let mut cluster = cluster();
        let changes = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}});
        let through = cluster.patch(&pod(Some("status")), "p", PatchForm::Strategic, &changes).unwrap();
        assert_eq!(through["metadata"]["annotations"]["a"], "b");
        assert_eq!(
            (&through["spec"]["nodeName"], &through["status"]["phase"]),
            (&json!("n"), &json!("Running"))
        );
        let changes = json!({"spec": {"nodeName": "x"}, "status": {"phase": "Failed"}});
        let through = cluster.patch(&pod(None), "p", PatchForm::Merge, &changes).unwrap();
        assert_eq!(
            (&through["spec"]["nodeName"], &through["status"]["phase"]),
            (&json!("x"), &json!("Running"))
        );
    }

    #[test]
    fn a_name_is_taken_once_in_a_namespace() {
        let mut cluster = cluster();
        let object = json!({"metadata": {"name": "p"}});
        assert_eq!(cluster.create(PODS, "default", object.clone()).unwrap_err().code, 409);
        cluster.create(PODS, "other", object.clone()).unwrap();
        assert_eq!(
            cluster
                .create(PODS, "other", json!({"metadata": {"namespace": "x", "name": "p"}}))
                .unwrap_err()
                .code,
            400
        );
        assert_eq!(cluster.create(PODS, "other", json!({})).unwrap_err().code, 422);
        let made = cluster.create(PODS, "other", json!({"metadata": {"generateName": "g-"}})).unwrap();
        assert!(made["metadata"]["name"].as_str().unwrap().starts_with("g-0"));
        let list = cluster.list(&Target { name: None, namespace: String::new(), ..pod(None) });
        assert_eq!(list["items"].as_array().unwrap().len(), 3);
    }
}

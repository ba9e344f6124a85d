use serde_json::{Value, json};

use super::status::Status;

/// A kind of object that the server keeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The API group; empty for the core group.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static [&'static str],
    pub(super) namespaced: bool,
    /// Whether there is a subresource `status`.
    pub(super) has_status: bool,
}

pub(super) const PODS: &Kind = &Kind {
    group: "",
    version: "v1",
    plural: "pods",
    kind: "Pod",
    short: &["po"],
    namespaced: true,
    has_status: true,
};

pub(super) const SERVICE_ACCOUNTS: &Kind = &Kind {
    group: "",
    version: "v1",
    plural: "serviceaccounts",
    kind: "ServiceAccount",
    short: &["sa"],
    namespaced: true,
    has_status: false,
};

const KINDS: &[&Kind] = &[
    PODS,
    &Kind {
        group: "",
        version: "v1",
        plural: "namespaces",
        kind: "Namespace",
        short: &["ns"],
        namespaced: false,
        has_status: false,
    },
    SERVICE_ACCOUNTS,
    &Kind {
        group: "",
        version: "v1",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        namespaced: true,
        has_status: false,
    },
    &Kind {
        group: "events.k8s.io",
        version: "v1",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        namespaced: true,
        has_status: false,
    },
    &Kind {
        group: "k8s.cni.cncf.io",
        version: "v1",
        plural: "network-attachment-definitions",
        kind: "NetworkAttachmentDefinition",
        short: &["net-attach-def"],
        namespaced: true,
        has_status: false,
    },
    &Kind {
        group: "kubernetes-network.cni.cncf.io",
        version: "v1",
        plural: "networks",
        kind: "Network",
        short: &[],
        namespaced: true,
        has_status: false,
    },
];

impl Kind {
    /// The plural with its group, as it stands in messages.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// As it stands in an object's `apiVersion`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// True for the kinds that a custom resource definition would make.
    pub(super) fn is_custom(&self) -> bool {
        self.group.ends_with(".cncf.io")
    }

    /// The kind that an object says it is.
    pub(super) fn of(object: &Value) -> Option<&'static Self> {
        let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        KINDS.iter().copied().find(|known| known.api_version() == api_version && known.kind == kind)
    }

    /// The kind of that plural in that API version, such as `pods` in `v1`.
    pub(super) fn named(api_version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|known| known.api_version() == api_version && known.plural == plural)
    }
}

/// What a path of the API names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    /// Empty for objects without a namespace and for a list over all namespaces.
    pub(super) namespace: String,
    /// `None` for a list.
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// Reads a path below `/api` or `/apis`.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (api_version, rest) = match path.strip_prefix("/api/") {
            Some(path) => path.split_once('/').map(|(version, rest)| (version.to_owned(), rest))?,
            None => {
                let mut parts = path.strip_prefix("/apis/")?.splitn(3, '/');
                (format!("{}/{}", parts.next()?, parts.next()?), parts.next()?)
            }
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, plural, below) = match parts.as_slice() {
            ["namespaces", namespace, plural, below @ ..] if *plural != "status" => {
                (*namespace, *plural, below)
            }
            [plural, below @ ..] => ("", *plural, below),
            [] => return None,
        };
        let kind = Kind::named(&api_version, plural)?;
        let (name, subresource) = match below {
            [] => (None, None),
            [name] => (Some((*name).to_owned()), None),
            [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
            _ => return None,
        };
        let is_whole = name.is_none() || kind.namespaced != namespace.is_empty();
        is_whole.then(|| Self { kind, namespace: namespace.to_owned(), name, subresource })
    }

    /// The resource as a role names it.
    pub(super) fn resource(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.kind.plural),
            None => self.kind.plural.to_owned(),
        }
    }
}

/// What the server says about itself; `None` where the path asks for something else.
pub(super) fn discovery(path: &str) -> Option<Result<Value, Status>> {
    let answer = match path {
        "/version" => json!({ "major": "1", "minor": "32", "gitVersion": "v1.32.0" }),
        "/healthz" | "/livez" | "/readyz" => json!("ok"),
        "/api" => json!({ "kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"] }),
        "/apis" => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        "/api/v1" => resources("v1"),
        _ => {
            let below = path.strip_prefix("/apis/")?;
            match below.split('/').collect::<Vec<_>>().as_slice() {
                [name] if groups().contains(name) => group(name),
                [name, "v1"] if groups().contains(name) => resources(below),
                [_] | [_, _] => {
                    return Some(Err(Status::new(404, "the server could not find the requested resource")));
                }
                _ => return None,
            }
        }
    };
    Some(Ok(answer))
}

fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = KINDS.iter().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    groups.dedup();
    groups
}

fn group(name: &str) -> Value {
    let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
    json!({ "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version })
}

fn resources(api_version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.api_version() == api_version) {
        resources.push(json!({
            "name": kind.plural,
            "singularName": kind.kind.to_lowercase(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "shortNames": kind.short,
            "verbs": ["create", "delete", "get", "list", "patch", "update"],
        }));
        if kind.has_status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects_lists_and_subresources() {
        let target = Target::parse("/api/v1/namespaces/default/pods/p/status").unwrap();
        assert_eq!((target.kind, target.namespace.as_str()), (PODS, "default"));
        assert_eq!((target.name.as_deref(), target.resource().as_str()), (Some("p"), "pods/status"));
        let definitions = "/apis/k8s.cni.cncf.io/v1/namespaces/a/network-attachment-definitions";
        let target = Target::parse(definitions).unwrap();
        assert_eq!((target.kind.kind, target.name), ("NetworkAttachmentDefinition", None));
        assert_eq!(Target::parse("/api/v1/namespaces/a").unwrap().name.as_deref(), Some("a"));
        assert_eq!(Target::parse("/api/v1/pods").unwrap().namespace, "");
        for nothing in [
            "/api/v1/pods/p",
            "/apis/other/v1/things",
            "/api/v2/pods",
            "/x",
            "/api/v1/namespaces/a/pods/p/status/x",
        ] {
            assert_eq!(Target::parse(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn discovery_lists_each_group_once() {
        let groups = discovery("/apis").unwrap().unwrap();
        assert_eq!(groups["groups"].as_array().unwrap().len(), 3);
        assert!(discovery("/apis/nonsense/v1").unwrap().is_err());
        assert!(discovery("/api/v1/pods").is_none());
    }
}

/// What a user may do, as a cluster role says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Upstream multus': everything on definitions; get, list, update, watch on pods and their
    /// status; create, patch, update on events.
    Upstream,
    /// MicroShift's: upstream's, and patch on pods and their status.
    MicroShift,
    /// The least that is enough: get on pods and definitions, patch on the status of pods, create
    /// on events.
    Least,
    /// Everything, for a person with `kubectl`.
    Admin,
    /// Nothing.
    Nothing,
}

struct Rule {
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const DEFINITIONS: &str = "network-attachment-definitions";

const UPSTREAM: &[Rule] = &[
    Rule { groups: &["k8s.cni.cncf.io"], resources: &["*"], verbs: &["*"] },
    Rule { groups: &[""], resources: &["pods", "pods/status"], verbs: &["get", "list", "update", "watch"] },
    Rule { groups: &["", "events.k8s.io"], resources: &["events"], verbs: &["create", "patch", "update"] },
];

const MICROSHIFT: &[Rule] = &[
    Rule { groups: &["k8s.cni.cncf.io"], resources: &["*"], verbs: &["*"] },
    Rule {
        groups: &[""],
        resources: &["pods", "pods/status"],
        verbs: &["get", "list", "update", "watch", "patch"],
    },
    Rule { groups: &["", "events.k8s.io"], resources: &["events"], verbs: &["create", "patch", "update"] },
];

const LEAST: &[Rule] = &[
    Rule { groups: &[""], resources: &["pods"], verbs: &["get"] },
    Rule { groups: &["k8s.cni.cncf.io"], resources: &[DEFINITIONS], verbs: &["get"] },
    Rule { groups: &[""], resources: &["pods/status"], verbs: &["patch"] },
    Rule { groups: &["", "events.k8s.io"], resources: &["events"], verbs: &["create"] },
];

const ADMIN: &[Rule] = &[Rule { groups: &["*"], resources: &["*"], verbs: &["*"] }];

impl Role {
    /// Whether the role grants `verb` on `resource` (with its subresource, as `pods/status`).
    pub fn grants(self, verb: &str, group: &str, resource: &str) -> bool {
        let rules = match self {
            Self::Upstream => UPSTREAM,
            Self::MicroShift => MICROSHIFT,
            Self::Least => LEAST,
            Self::Admin => ADMIN,
            Self::Nothing => &[],
        };
        let holds = |list: &[&str], wanted: &str| list.iter().any(|entry| *entry == "*" || *entry == wanted);
        rules.iter().any(|rule| {
            holds(rule.groups, group) && holds(rule.resources, resource) && holds(rule.verbs, verb)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_the_status_and_how() {
        for (role, update, patch) in [
            (Role::Upstream, true, false),
            (Role::MicroShift, true, true),
            (Role::Least, false, true),
            (Role::Nothing, false, false),
        ] {
            assert_eq!(role.grants("update", "", "pods/status"), update, "{role:?}");
            assert_eq!(role.grants("patch", "", "pods/status"), patch, "{role:?}");
        }
    }

    #[test]
    fn the_least_can_not_list_definitions() {
        assert!(Role::Least.grants("get", "k8s.cni.cncf.io", DEFINITIONS));
        assert!(!Role::Least.grants("list", "k8s.cni.cncf.io", DEFINITIONS));
        assert!(Role::Upstream.grants("list", "k8s.cni.cncf.io", DEFINITIONS));
    }
}

//! Accepted differences from Go's multus: each a named rule with its reason. A rule that no case needs is a
//! failure, so the list holds only what is true.

use oxcni_tests::Difference;
use oxcni_tests::generated::Accepted;
use serde_json::Value;

use crate::case::{Case, Configured, Net, Place as Found, REQUESTED};

/// An accepted difference.
pub(crate) struct Rule {
    pub(crate) accepted: Accepted,
    explains: fn(&Place<'_>) -> bool,
}

/// A difference, with everything that a rule may look at.
struct Place<'a> {
    case: &'a Case,
    /// The whole observation of ours.
    ours: &'a Value,
    difference: &'a Difference,
}

impl Place<'_> {
    fn path(&self) -> &str {
        &self.difference.path
    }

    fn ends_with(&self, end: &str) -> bool {
        self.path().ends_with(end)
    }

    fn is_of_call(&self, step: &str) -> bool {
        self.path().starts_with(&format!("/{step}/calls/"))
    }

    fn is_of_cache(&self) -> bool {
        ["/add/caches/", "/del/caches/"].iter().any(|caches| self.path().starts_with(caches))
    }

    /// The call that this is about, as ours made it.
    fn call(&self) -> &Value {
        let mut parts = self.path().split('/').skip(1);
        let (step, number) =
            (parts.next().unwrap_or_default(), parts.nth(1).and_then(|part| part.parse().ok()));
        number.map_or(&Value::Null, |number: usize| &self.ours[step]["calls"][number])
    }

    /// Whether the network of the call that this is about has no `cniVersion`.
    fn is_versionless(&self) -> bool {
        let ifname = &self.call()["ifname"];
        let adds = self.ours["add"]["calls"].as_array().map_or(&[][..], Vec::as_slice);
        adds.iter().any(|add| add["ifname"] == *ifname && add["config"]["cniVersion"] == "0.1.0")
    }

    /// The networks by which the pod asks for its default route.
    fn asked_for_default_route(&self) -> impl Iterator<Item = &Net> {
        let asks = |requested: &[usize]| requested.iter().any(|key| REQUESTED[*key].0 == "default-route");
        let selected = self.case.selected.iter().filter(|_| !self.case.is_short);
        selected.filter(move |(_, requested)| asks(requested)).map(|(net, _)| net)
    }

    fn moves_default_route(&self) -> bool {
        self.asked_for_default_route().next().is_some()
    }

    /// Whether multus' configuration names a list by the path of its file.
    fn has_list_by_path(&self) -> bool {
        let Configured::Named(networks) = &self.case.configured else { return false };
        networks.iter().any(|(net, place)| net.is_list && matches!(place, Found::File))
    }

    fn go_lacks_it(&self) -> bool {
        self.difference.theirs.is_null()
    }
}

const fn rule(name: &'static str, reason: &'static str, explains: fn(&Place<'_>) -> bool) -> Rule {
    Rule { accepted: Accepted { name, reason, rare: false }, explains }
}

impl Rule {
    /// One that few cases need.
    const fn rare(mut self) -> Rule {
        self.accepted.rare = true;
        self
    }
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "the version of the result",
        "Go returns the default network's result in that network's version; the specification wants the version of multus' configuration",
        |at| {
            let is_of_version = at.ends_with("/cniVersion") || at.ends_with("/version");
            at.path().starts_with("/add/result/") && is_of_version
        },
    ),
    rule("a network without a version", "Go passes that on, ours say what it means", |at| {
        let means = [Value::Null, "".into(), "0.1.0".into()];
        at.ends_with("/cniVersion")
            && means.contains(&at.difference.theirs)
            && means.contains(&at.difference.ours)
    }),
    rule(
        "a list without a version at DEL",
        "Go calls its plugins in the version of multus, without the keys that it does not know; ours are called as at ADD",
        |at| at.is_of_call("del") && at.path().contains("/config/") && at.is_versionless(),
    ),
    rule("IgnoreUnknown", "is 1 or true; Go keeps only its own", |at| at.ends_with("/IgnoreUnknown")),
    rule("a requested address at DEL", "Go leaves it out", |at| {
        at.is_of_call("del")
            && at.go_lacks_it()
            && ["/args/IP", "/args/MAC"].iter().any(|arg| at.ends_with(arg))
    }),
    rule("the key capabilities", "the specification wants it removed; libcni leaves it", |at| {
        at.path().contains("/config/capabilities") && at.difference.ours.is_null()
    }),
    rule(
        "portMappings and bandwidth of a pod at DEL",
        "Go's cache does not have them: it passes none, or those of the runtime",
        |at| {
            let is_requested = |key: &str| ["portMappings", "bandwidth"].contains(&key);
            let all = &at.call()["config"]["runtimeConfig"];
            let offered = at.path().split_once("/config/runtimeConfig").map(|(_, offered)| offered);
            at.is_of_call("del")
                && offered.is_some_and(|offered| match offered.split('/').nth(1) {
                    Some(key) => is_requested(key),
                    None => all.as_object().is_some_and(|all| all.keys().all(|key| is_requested(key))),
                })
        },
    ),
    rule("the cached configuration in Go's own types", "Go repeats there what it reads from Bytes", |at| {
        at.is_of_cache()
            && ["CNINetworkConfigList", "ConfList", "Conf"]
                .iter()
                .any(|key| at.path().split('/').any(|part| part == *key))
    }),
    rule("the network that a cache entry is of", "which GC needs; unknown keys are ignored", |at| {
        at.is_of_cache()
            && at.go_lacks_it()
            && ["/multusNetwork", "/oxcniOwner"].iter().any(|key| at.ends_with(key))
    }),
    rule(
        "a list that is named by its path",
        "Go's cache has its plugins without the keys that multus does not know, and so has DEL",
        |at| {
            let is_of_plugin = at.path().contains("/Bytes/plugins/") || at.is_of_call("del");
            at.has_list_by_path() && is_of_plugin && at.go_lacks_it()
        },
    ),
    rule(
        "the families of a default route",
        "Go marks both, to remove the default routes of both; ours remove those of the gateway's",
        |at| at.is_of_cache() && at.ends_with("/IsFilterV6Gateway") && at.moves_default_route(),
    ),
    rule(
        "the gateway of the status after default-route",
        "ours name the one that the pod asked for, Go those that the networks have without that",
        |at| {
            let without_gateway = |status: &Value| {
                let mut status: Value =
                    status.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                let entries = status.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
                entries.for_each(|entry| drop(entry.remove("gateway")));
                status
            };
            at.path() == "/add/status"
                && at.moves_default_route()
                && without_gateway(&at.difference.theirs) == without_gateway(&at.difference.ours)
        },
    ),
    rule(
        "default routes in results after default-route",
        "ours are those that the container has; Go's lack some of those, or have what the plugin gave",
        |at| {
            let others = |of: &Value| {
                let routes = of.as_array().cloned().unwrap_or_default();
                routes.into_iter().filter(|route| route["dst"] != "0.0.0.0/0").collect::<Vec<_>>()
            };
            let is_of_cache = at.is_of_cache() && at.ends_with("/result/routes");
            let is_of_call = at.is_of_call("del") && at.ends_with("/prevResult/routes");
            let is_of_result = at.path() == "/add/result/routes" || is_of_cache || is_of_call;
            is_of_result
                && at.moves_default_route()
                && others(&at.difference.theirs) == others(&at.difference.ours)
        },
    )
    .rare(),
    rule(
        "default routes of other networks",
        "Go's newest build removes none, and adds none beside another",
        |at| {
            let routes = |of: &Value| of.as_array().cloned().unwrap_or_default();
            let (theirs, ours) = (routes(&at.difference.theirs), routes(&at.difference.ours));
            at.path() == "/add/default routes"
                && at.moves_default_route()
                && !ours.is_empty()
                && ours.iter().all(|route| theirs.contains(route))
        },
    ),
];

/// The differences that no rule explains, and the names of the rules that explained others.
pub(crate) fn explain(case: &Case, theirs: &Value, ours: &Value) -> (Vec<Difference>, Vec<&'static str>) {
    let mut used = Vec::new();
    let mut found = Difference::all(theirs, ours);
    found.retain(|difference| {
        let place = Place { case, ours, difference };
        let explaining: Vec<_> =
            RULES.iter().filter(|rule| (rule.explains)(&place)).map(|rule| rule.accepted.name).collect();
        used.extend(&explaining);
        explaining.is_empty() && difference.path != "/printed"
    });
    (found, used)
}

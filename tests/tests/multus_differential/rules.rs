//! Accepted differences from Go's multus: each a named rule with its reason. A rule that no case needs is a
//! failure, so the list holds only what is true.

use oxcni_tests::Difference;
use oxcni_tests::generated::Accepted;
use serde_json::Value;

/// An accepted difference.
pub(crate) struct Rule {
    pub(crate) accepted: Accepted,
    explains: fn(&Place<'_>) -> bool,
}

/// A difference, with everything that a rule may look at.
struct Place<'a> {
    theirs: &'a Value,
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

    fn go_lacks_it(&self) -> bool {
        self.difference.theirs.is_null()
    }
}

const fn rule(name: &'static str, reason: &'static str, explains: fn(&Place<'_>) -> bool) -> Rule {
    Rule { accepted: Accepted { name, reason, rare: false }, explains }
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
    rule("portMappings and bandwidth of a pod at DEL", "Go's cache does not have them", |at| {
        at.is_of_call("del") && at.go_lacks_it() && {
            let offered = &at.call()["config"]["runtimeConfig"];
            let is_requested = |key: &str| ["portMappings", "bandwidth"].contains(&key);
            is_requested(at.path().rsplit('/').next().unwrap_or_default())
                || at.ends_with("/runtimeConfig")
                    && offered.as_object().is_some_and(|offered| offered.keys().all(|key| is_requested(key)))
        }
    }),
    rule("the cached configuration in Go's own types", "Go repeats there what it reads from Bytes", |at| {
        at.is_of_cache()
            && ["CNINetworkConfigList", "ConfList", "Conf"]
                .iter()
                .any(|key| at.path().split('/').any(|part| part == *key))
    }),
    rule("the network that a cache entry is of", "which GC needs; unknown keys are ignored", |at| {
        at.is_of_cache() && at.go_lacks_it() && at.ends_with("/multusNetwork")
    }),
    rule(
        "default routes of other networks",
        "Go's newest build removes none, and adds none beside another",
        |at| at.path().contains("/default routes"),
    ),
];

/// The differences that no rule explains, and the names of the rules that explained others.
pub(crate) fn explain(theirs: &Value, ours: &Value) -> (Vec<Difference>, Vec<&'static str>) {
    let mut used = Vec::new();
    let mut found = Difference::all(theirs, ours);
    found.retain(|difference| {
        let place = Place { theirs, ours, difference };
        let explaining: Vec<_> =
            RULES.iter().filter(|rule| (rule.explains)(&place)).map(|rule| rule.accepted.name).collect();
        used.extend(&explaining);
        explaining.is_empty() && difference.path != "/said"
    });
    (found, used)
}

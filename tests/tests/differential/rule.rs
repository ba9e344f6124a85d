//! What a rule for an accepted difference is, and what it may look at.

use oxcni_tests::Difference;
use oxcni_tests::generated::Accepted;
use serde_json::Value;

use crate::case::{Case, Family};

/// An accepted difference.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// Where it applies; a case of the first must need it.
    pub(crate) families: &'static [Family],
    /// Which Go plugins differ in this.
    pub(crate) of: Release,
    /// Whether so few cases need it that only a run of a thousand must have one.
    pub(crate) rare: bool,
    pub(crate) explains: fn(&Place<'_>) -> bool,
}

impl Rule {
    pub(crate) fn accepted(&self) -> Accepted {
        Accepted { name: self.name, reason: self.reason, rare: self.rare }
    }
}

/// Releases of the Go plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Any,
    /// 1.1.1, which Debian has.
    Debian,
    /// Later ones.
    Newer,
}

impl Release {
    /// Whether a rule of this holds for `other`, which is a certain one.
    pub(crate) fn holds_for(self, other: Release) -> bool {
        self == Release::Any || self == other
    }
}

/// A difference, with everything that a rule may look at.
pub(crate) struct Place<'a> {
    pub(crate) case: &'a Case,
    /// The whole observation of Go.
    pub(crate) theirs: &'a Value,
    /// The whole observation of ours.
    pub(crate) ours: &'a Value,
    pub(crate) difference: &'a Difference,
}

impl Place<'_> {
    pub(crate) fn path(&self) -> &str {
        &self.difference.path
    }

    pub(crate) fn ends_with(&self, end: &str) -> bool {
        self.path().ends_with(end)
    }

    /// Whether this is about the exits of a command, the results, or the state after a command.
    pub(crate) fn is_of(&self, step: &str) -> bool {
        self.path()[1..].split('/').next() == Some(step)
    }

    /// Whether this is about the state of the host or of a container, at any time.
    pub(crate) fn is_of_state(&self) -> bool {
        self.path().starts_with("/after ")
    }

    pub(crate) fn key(&self, key: &str) -> &Value {
        self.case.key(key)
    }

    /// The elements of a list of `ipam`.
    pub(crate) fn of_ipam(&self, key: &str) -> &[Value] {
        self.key("ipam")[key].as_array().map_or(&[], Vec::as_slice)
    }

    /// Whether a call succeeds with ours, and fails in Go, which says `why` (a part of it).
    pub(crate) fn go_alone_fails(&self, step: &str, why: &str) -> bool {
        let printed = self.container().map(|container| &self.theirs["printed"][step][container]);
        let printed = printed.and_then(Value::as_str).unwrap_or_default();
        self.is_of(step) && self.difference.ours == "success" && printed.contains(why)
    }

    /// Which container this is about, by the first number of the path; none where it is about the host.
    fn container(&self) -> Option<usize> {
        let is_of_host = ["/host/", "/files/"].iter().any(|part| self.path().contains(part));
        self.path().split('/').find_map(|part| part.parse().ok()).filter(|_| !is_of_host)
    }

    /// The container that this is about; of the host, all.
    fn containers(&self) -> std::ops::Range<usize> {
        self.container().map_or(0..self.case.containers, |container| container..container + 1)
    }

    /// Whether an ADD of Go failed: that of the container that this is about; of the host, any.
    pub(crate) fn is_refused_by_go(&self) -> bool {
        self.containers().any(|container| !is_added(self.theirs, container))
    }

    /// Whether an ADD that failed in Go succeeded with ours: that of the container that this is about; of the
    /// host, any. Go says `why` (a part of it).
    pub(crate) fn is_refused_by_go_alone(&self, why: &str) -> bool {
        self.refused_by_one(self.theirs, self.ours, why)
    }

    /// The same for an ADD that failed with ours alone, and what ours say.
    pub(crate) fn is_refused_by_ours_alone(&self, why: &str) -> bool {
        self.refused_by_one(self.ours, self.theirs, why)
    }

    fn refused_by_one(&self, by: &Value, other: &Value, why: &str) -> bool {
        self.containers().any(|container| {
            let printed = by["printed"]["add"][container].as_str().unwrap_or_default();
            !is_added(by, container) && is_added(other, container) && printed.contains(why)
        })
    }

    /// Whether ours left what a path such as `/after add/host/links/br0` is about as it was.
    pub(crate) fn is_untouched_by_ours(&self) -> bool {
        let Some((when, what)) = self.path()[1..].split_once('/') else { return false };
        let what = format!("/{what}");
        let within = |path: &str, whole: &str| {
            path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let changed = Difference::all(&self.ours["before"], &self.ours[when]);
        !changed.iter().any(|found| within(&found.path, &what) || within(&what, &found.path))
    }
}

fn is_added(observed: &Value, container: usize) -> bool {
    observed["add"][container] == "success"
}

/// The differences that no rule explains, and the names of the rules that explained others.
pub(crate) fn explain(
    case: &Case,
    theirs: &Value,
    ours: &Value,
    rules: &[&'static Rule],
) -> (Vec<Difference>, Vec<&'static str>) {
    let mut used = Vec::new();
    let mut found = Difference::all(theirs, ours);
    found.retain(|difference| {
        let place = Place { case, theirs, ours, difference };
        let explaining: Vec<_> =
            rules.iter().filter(|rule| (rule.explains)(&place)).map(|rule| rule.name).collect();
        used.extend(&explaining);
        // The texts of errors are for rules and for people.
        explaining.is_empty() && !place.is_of("printed")
    });
    (found, used)
}

//! Which cases are run for which plugin, in which versions, and why some are not.

use crate::case::{Case, Kind, Needs};
use crate::profile::Profile;
use crate::version::{RELEASED, Version};
use crate::worker::Probed;
use std::collections::BTreeSet;
use std::path::Path;

/// The first version that has chains, and with them `prevResult`.
const CHAINS: Version = Version(0, 3, 0);

/// What a user wants to run of all there is.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Ids of cases or beginnings of them (`1.1/del`); all if empty.
    pub cases: Vec<String>,
    /// Versions of the specification; all if empty.
    pub versions: Vec<Version>,
    /// Only these runs; all if absent.
    pub runs: Option<BTreeSet<RunKey>>,
}

/// What tells one run from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    /// The profile's name.
    pub profile: String,
    /// The case's id.
    pub case: String,
    /// The version.
    pub version: Version,
}

/// One run of one case.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// The plugin.
    pub profile: &'a Profile,
    /// The case.
    pub case: &'a Case,
    /// The version.
    pub version: Version,
    /// Why it can't be run here.
    pub skip: Option<String>,
}

impl Selection {
    /// Whether a case is wanted.
    #[must_use]
    pub fn wants(&self, id: &str) -> bool {
        let chosen = |wanted: &String| {
            let rest = id.strip_prefix(wanted.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.cases.is_empty() || self.cases.iter().any(chosen)
    }

    /// Whether it leaves anything out.
    #[must_use]
    pub fn is_choice(&self) -> bool {
        !self.cases.is_empty() || !self.versions.is_empty() || self.runs.is_some()
    }

    fn wants_run(&self, profile: &Profile, case: &Case, version: Version) -> bool {
        let key = || RunKey { profile: profile.name.clone(), case: case.id.clone(), version };
        (self.versions.is_empty() || self.versions.contains(&version))
            && self.runs.as_ref().is_none_or(|runs| runs.contains(&key()))
    }
}

/// Whether a case has anything to say about a plugin.
#[must_use]
pub fn applies(case: &Case, profile: &Profile) -> bool {
    if !case.needs.claims.iter().all(|claim| profile.claims(claim)) {
        return false;
    }
    if !case.operations().all(|operation| profile.commands.contains_key(&operation.command)) {
        return false;
    }
    match &case.plugin {
        Some(plugin) => *plugin == profile.plugin,
        None if profile.kind == Kind::Runtime => case.kind.contains(&Kind::Runtime),
        None => case.kind.contains(&Kind::Any) || case.kind.contains(&profile.kind),
    }
}

/// All runs of one plugin, in the order of the cases.
#[must_use]
pub fn plan<'a>(
    profile: &'a Profile,
    cases: &'a [Case],
    selection: &Selection,
    probed: &Probed,
    plugins: &Path,
) -> Vec<Item<'a>> {
    let answered = probed.versions.get(&profile.plugin).filter(|versions| !versions.is_empty());
    // A plugin that does not answer VERSION is called with all versions, and fails those it lacks. A
    // runtime has no VERSION: its profile may name versions.
    let all = profile.versions.as_ref().or(answered).map_or(&RELEASED[..], Vec::as_slice);
    let mut items = Vec::new();
    for case in cases.iter().filter(|case| selection.wants(&case.id) && applies(case, profile)) {
        let wanted = |version: &&Version| {
            case.versions.contains(**version)
                && (profile.kind != Kind::Chained || **version >= CHAINS)
                && selection.wants_run(profile, case, **version)
        };
        let mut versions: Vec<Version> = all.iter().filter(wanted).copied().collect();
        versions.sort();
        if !case.each {
            versions = versions.pop().into_iter().collect();
        }
        let skip = lacks(&case.needs, probed, plugins).or_else(|| lacks(&profile.needs, probed, plugins));
        items.extend(versions.into_iter().map(|version| Item { profile, case, version, skip: skip.clone() }));
    }
    items
}

/// The first thing that is needed and not there.
fn lacks(needs: &Needs, probed: &Probed, plugins: &Path) -> Option<String> {
    let kernel = needs.kernel.iter().find_map(|feature| {
        let reason = probed.missing.get(feature)?;
        let reason = reason.lines().next().unwrap_or_default();
        Some(format!("the kernel lacks {feature} ({reason})"))
    });
    let program = || {
        let missing = needs.programs.iter().find(|program| probed.missing.contains_key(*program))?;
        Some(format!("there is no program {missing}"))
    };
    let plugin = || {
        let missing = needs.plugins.iter().find(|plugin| !plugins.join(plugin).is_file())?;
        Some(format!("there is no plugin {missing} in the folder"))
    };
    kernel.or_else(program).or_else(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_selects_its_cases_and_no_others() {
        let selection = Selection { cases: vec!["1.1/del".to_owned()], ..Selection::default() };
        assert!(selection.wants("1.1/del/1") && selection.wants("1.1/del"));
        assert!(!selection.wants("1.1/delegation/1") && !selection.wants("1.1/add/1"));
        let one = Selection { cases: vec!["1.1/del/1".to_owned()], ..Selection::default() };
        assert!(!one.wants("1.1/del/10"));
    }

    #[test]
    fn a_case_runs_in_the_newest_version_unless_it_is_for_each() {
        let profile =
            crate::profile::parse("{type: x, kind: interface, versions: [0.4.0, 1.0.0, 0.3.1]}").unwrap();
        let file = "{text: t, cases: [{id: 1/a/1, level: must, kind: any, title: t, requirement: r, versions: '<1.0.0', \
                    when: [{call: ADD}]}, {id: 1/a/2, level: must, kind: any, title: t, requirement: r, each: true, \
                    when: [{call: ADD}]}, {id: 1/a/3, level: must, kind: chained, title: t, requirement: r, \
                    when: [{call: ADD}]}]}";
        let cases = crate::catalogue::read(&[("f", file)]).unwrap();
        let planned: Vec<String> =
            plan(&profile, &cases, &Selection::default(), &Probed::default(), Path::new("/nowhere"))
                .iter()
                .map(|item| format!("{}@{}", item.case.id, item.version))
                .collect();
        assert_eq!(planned, ["1/a/1@0.4.0", "1/a/2@0.3.1", "1/a/2@0.4.0", "1/a/2@1.0.0"]);
    }
}

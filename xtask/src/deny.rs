//! `cargo xtask deny`: what the tree of dependencies may hold.
//!
//! The rules are in `deny.toml`, in the form of cargo-deny. To compile that program takes two minutes on
//! a new machine, so a test run has the three checks here that need no network: licences, duplicates
//! and sources. A person who has cargo-deny gets the same verdicts from it.

mod advisories;
mod licence;

use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::workspace::{Workspace, cargo};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Check the dependencies: licences, duplicates, sources and, with a database, advisories.
///
/// The rules are in deny.toml, which `cargo deny check` reads too. `cargo xtask test` runs this
/// without advisories.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkout of the RustSec advisory database (github.com/rustsec/advisory-db).
    #[arg(long, value_name = "DIR")]
    advisories: Option<PathBuf>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let crates = check(&Workspace::load()?, args.advisories.as_deref())?;
    let with = if args.advisories.is_some() { ", advisories" } else { "" };
    println!("{crates} crates: licences, duplicates, sources{with}: no objections");
    Ok(ExitCode::SUCCESS)
}

/// Checks the whole tree; gives the number of crates.
///
/// # Errors
/// All objections, one a line.
pub(crate) fn check(workspace: &Workspace, advisories: Option<&Path>) -> Result<usize> {
    let file = workspace.root.join("deny.toml");
    let text = fs::read_to_string(&file).context(|| format!("can't read {}", file.display()))?;
    let rules: Rules = toml::from_str(&text).context(|| format!("can't read {}", file.display()))?;
    let crates = crates(workspace, &rules.graph.targets)?;
    let mut objections = rules.objections(&crates);
    if let Some(folder) = advisories {
        objections.extend(advisories::objections(folder, &crates, &rules.advisories.ignore)?);
    }
    if objections.is_empty() { Ok(crates.len()) } else { Err(Failure::new(objections.join("\n"))) }
}

/// The part of cargo-deny's configuration that is checked here; see its documentation.
#[derive(Debug, Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
    sources: Sources,
    advisories: AdvisoryRules,
}

#[derive(Debug, Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    exceptions: Vec<LicenceException>,
}

#[derive(Debug, Deserialize)]
struct LicenceException {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

/// A version that may be there beside another.
#[derive(Debug, Deserialize)]
struct Skip {
    /// `NAME@REQUIREMENT`
    #[serde(rename = "crate")]
    krate: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct AdvisoryRules {
    ignore: Vec<Ignored>,
}

#[derive(Debug, Deserialize)]
struct Ignored {
    id: String,
}

/// What `cargo metadata` reports.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
}

/// A crate of the tree.
#[derive(Debug, Clone, Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `registry+URL`; `None` for those of the workspace.
    source: Option<String>,
}

/// The crates that a build for any of these targets uses, tests and tasks included.
fn crates(workspace: &Workspace, targets: &[String]) -> Result<Vec<Crate>> {
    let mut crates = BTreeMap::new();
    for target in targets {
        let mut metadata = cargo();
        metadata
            .args(["metadata", "--format-version=1", "--all-features", "--locked", "--filter-platform"])
            .arg(target)
            .arg("--manifest-path")
            .arg(workspace.root.join("Cargo.toml"));
        let text = quietly(&mut metadata)?;
        let metadata: Metadata =
            serde_json::from_str(&text).context(|| "can't read what cargo metadata printed".into())?;
        let used: BTreeSet<String> = metadata.resolve.nodes.into_iter().map(|node| node.id).collect();
        let here = metadata.packages.into_iter().filter(|one| used.contains(&one.id));
        crates.extend(here.map(|one| (one.id.clone(), one)));
    }
    Ok(crates.into_values().collect())
}

impl Rules {
    fn objections(&self, crates: &[Crate]) -> Vec<String> {
        let mut objections: Vec<String> =
            crates.iter().flat_map(|one| [self.to_source(one), self.to_licence(one)]).flatten().collect();
        objections.extend(self.to_duplicates(crates));
        objections
    }

    fn to_source(&self, one: &Crate) -> Option<String> {
        let source = one.source.as_ref()?;
        let allowed =
            source.strip_prefix("registry+").is_some_and(|url| self.sources.allow_registry.contains(url));
        (!allowed).then(|| format!("{} {} comes from {source}", one.name, one.version))
    }

    fn to_licence(&self, one: &Crate) -> Option<String> {
        let Some(text) = &one.license else {
            return Some(format!("{} {} names no licence", one.name, one.version));
        };
        let of_its_own = self.licenses.exceptions.iter().find(|exception| exception.name == one.name);
        let allowed = |name: &str| {
            self.licenses.allow.contains(name) || of_its_own.is_some_and(|own| own.allow.contains(name))
        };
        match licence::is_satisfied(text, &allowed) {
            Some(true) => None,
            Some(false) => Some(format!("{} {} has the licence {text}", one.name, one.version)),
            None => Some(format!("{} {} has a licence that can't be read: {text}", one.name, one.version)),
        }
    }

    /// Crates with several versions, but for those that may be skipped; and skips without use.
    fn to_duplicates(&self, crates: &[Crate]) -> Vec<String> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in crates {
            versions.entry(&one.name).or_default().push(&one.version);
        }
        versions.retain(|_, versions| versions.len() > 1);
        let is_skipped =
            |name: &str, version: &str| self.bans.skip.iter().any(|skip| skip.matches(name, version));
        let remaining = versions.iter().filter_map(|(name, versions)| {
            let remaining: Vec<&str> =
                versions.iter().copied().filter(|version| !is_skipped(name, version)).collect();
            (remaining.len() > 1).then(|| format!("{name} has the versions {}", remaining.join(", ")))
        });
        let unused = self.bans.skip.iter().filter(|skip| {
            !versions
                .iter()
                .any(|(name, versions)| versions.iter().any(|version| skip.matches(name, version)))
        });
        remaining
            .chain(unused.map(|skip| format!("deny.toml skips {}, which has no other version", skip.krate)))
            .collect()
    }
}

impl Skip {
    fn matches(&self, name: &str, version: &str) -> bool {
        let (own_name, requirement) = self.krate.split_once('@').unwrap_or((&self.krate, "*"));
        let (Ok(requirement), Ok(version)) =
            (semver::VersionReq::parse(requirement), semver::Version::parse(version))
        else {
            return false;
        };
        own_name == name && requirement.matches(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::{Crate, Rules};

    fn rules(skip: &str) -> Rules {
        toml::from_str(&format!(
            "[graph]\ntargets = []\n[licenses]\nallow = ['MIT']\n\
             exceptions = [{{ crate = 'roots', allow = ['CDLA-Permissive-2.0'] }}]\n\
             [bans]\nskip = [{skip}]\n[sources]\nallow-registry = ['https://good']\n\
             [advisories]\nignore = []\n"
        ))
        .unwrap()
    }

    fn one(name: &str, version: &str, license: &str, source: &str) -> Crate {
        Crate {
            id: format!("{name}@{version}"),
            name: name.into(),
            version: version.into(),
            license: Some(license.into()),
            source: Some(source.into()),
        }
    }

    fn good(name: &str, version: &str) -> Crate {
        one(name, version, "MIT OR GPL-3.0", "registry+https://good")
    }

    #[test]
    fn sources_and_licences_are_those_of_the_lists() {
        let objections = |one: Crate| rules("").objections(&[one]);
        assert_eq!(objections(good("a", "1.0.0")), Vec::<String>::new());
        let of_another_registry = objections(one("a", "1.0.0", "MIT", "registry+https://bad"));
        assert_eq!(of_another_registry, ["a 1.0.0 comes from registry+https://bad"]);
        assert_eq!(objections(one("a", "1.0.0", "MIT", "git+https://good")).len(), 1);
        assert_eq!(
            objections(one("a", "1.0.0", "GPL-3.0", "registry+https://good")),
            ["a 1.0.0 has the licence GPL-3.0"]
        );
        let roots = |name| one(name, "1.0.0", "CDLA-Permissive-2.0", "registry+https://good");
        assert_eq!((objections(roots("roots")).len(), objections(roots("other")).len()), (0, 1));
    }

    #[test]
    fn a_crate_has_one_version_or_a_reason() {
        let crates = [good("a", "1.0.0"), good("a", "2.3.0"), good("b", "1.0.0")];
        assert_eq!(rules("").objections(&crates), ["a has the versions 1.0.0, 2.3.0"]);
        assert_eq!(rules("{ crate = 'a@1', reason = 'x' }").objections(&crates), Vec::<String>::new());
        let unused = rules("{ crate = 'a@1' }, { crate = 'b@1' }").objections(&crates);
        assert_eq!(unused, ["deny.toml skips b@1, which has no other version"]);
    }
}

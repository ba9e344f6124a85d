//! Advisories of a local copy of the RustSec database.

use super::{Crate, Ignored};
use crate::error::{Context, Failure, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// The head of an advisory: <https://github.com/rustsec/advisory-db#advisory-format>.
#[derive(Debug, Deserialize)]
struct Advisory {
    advisory: About,
    versions: Versions,
}

#[derive(Debug, Deserialize)]
struct About {
    id: String,
    withdrawn: Option<toml::Value>,
    informational: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

/// The advisories of the database that concern these crates.
///
/// # Errors
/// The folder is not a copy of the database.
pub(super) fn objections(folder: &Path, crates: &[Crate], ignore: &[Ignored]) -> Result<Vec<String>> {
    let database = folder.join("crates");
    if !database.is_dir() {
        return Err(Failure::new(format!("there is no folder {}", database.display())));
    }
    let mut objections = Vec::new();
    for one in crates.iter().filter(|one| one.source.is_some()) {
        let version = Version::parse(&one.version)
            .context(|| format!("{} has an invalid version, {}", one.name, one.version))?;
        for entry in fs::read_dir(database.join(&one.name)).into_iter().flatten().flatten() {
            let file = entry.path();
            let text = fs::read_to_string(&file).context(|| format!("can't read {}", file.display()))?;
            let advisory = parse(&text).context(|| format!("can't read {}", file.display()))?;
            let id = &advisory.advisory.id;
            if advisory.concerns(&version) && !ignore.iter().any(|ignored| ignored.id == *id) {
                let kind = advisory.advisory.informational.as_deref().unwrap_or("vulnerability");
                objections.push(format!("{} {}: {id} ({kind})", one.name, one.version));
            }
        }
    }
    Ok(objections)
}

/// The TOML block that an advisory begins with.
fn parse(text: &str) -> Result<Advisory> {
    let head = text.split_once("```toml").and_then(|(_, rest)| rest.split_once("```"));
    let (head, _) = head.ok_or_else(|| Failure::new("it has no TOML block"))?;
    toml::from_str(head).context(|| "its TOML block is not an advisory".into())
}

impl Advisory {
    fn concerns(&self, version: &Version) -> bool {
        let mut safe = self.versions.patched.iter().chain(&self.versions.unaffected);
        self.advisory.withdrawn.is_none() && !safe.any(|range| range.matches(version))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use semver::Version;

    const TEXT: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2099-0001\"\npackage = \"a\"\n\n\
                        [versions]\npatched = [\">= 1.2.0\"]\nunaffected = [\"< 1.0.0\"]\n```\n\n# A title\n";

    #[test]
    fn an_advisory_concerns_what_is_neither_patched_nor_unaffected() {
        let advisory = parse(TEXT).unwrap();
        let concerns = |version: &str| advisory.concerns(&Version::parse(version).unwrap());
        assert_eq!(["0.9.0", "1.0.0", "1.1.9", "1.2.0"].map(concerns), [false, true, true, false]);
        let withdrawn = TEXT.replace("package", "withdrawn = \"2099-01-02\"\npackage");
        assert!(!parse(&withdrawn).unwrap().concerns(&Version::parse("1.0.0").unwrap()));
    }

    #[test]
    fn a_file_that_is_no_advisory_is_an_error() {
        assert!(parse("# A title").is_err());
        assert!(parse("```toml\n[advisory]\n```").is_err());
    }
}

//! What is linked into the programs: as a list (CycloneDX 1.5), and with the texts of all licences.

use crate::dist::{MULTICALL, TOOL};
use crate::error::{Context, Failure, Result};
use crate::files;
use crate::process::quietly;
use crate::workspace::{Workspace, cargo};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is linked in beside the crates, statically, and its licence.
const BESIDE_CRATES: [(&str, &str); 2] = [("rust-std", "MIT OR Apache-2.0"), ("glibc", "LGPL-2.1-or-later")];

/// What `cargo metadata` reports of a crate.
#[derive(Debug, Clone, Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// The part of Cargo.lock that has checksums.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes the list.
pub(super) fn write(workspace: &Workspace, version: &str, folder: &Path) -> Result<()> {
    let list = serde_json::to_string_pretty(&bill(workspace, version, &linked(workspace)?)?)
        .context(|| "can't write the list of crates".into())?;
    files::write(&folder.join(format!("oxcni-{version}-cdx.json")), &(list + "\n"))
}

/// Writes the licences of all that is linked in to a file.
pub(crate) fn write_licences(workspace: &Workspace, file: &Path) -> Result<()> {
    files::write(file, &licences(workspace, &linked(workspace)?)?)
}

/// All crates that are linked into the programs: no procedural macros, no build scripts.
fn linked(workspace: &Workspace) -> Result<Vec<Crate>> {
    let triple = &workspace.platform.triple;
    let mut tree = cargo();
    tree.args([
        "tree",
        "--locked",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--target",
        triple,
    ])
    .args(["--package", MULTICALL, "--package", TOOL])
    .current_dir(&workspace.root);
    let text = quietly(&mut tree)?;
    let used: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version=1", "--locked", "--filter-platform", triple]);
    let text = quietly(metadata.current_dir(&workspace.root))?;
    let metadata: Metadata =
        serde_json::from_str(&text).context(|| "can't read cargo metadata's answer".into())?;
    let mut crates = metadata.packages;
    crates.retain(|krate| used.contains(&(&krate.name, &krate.version)));
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    if crates.len() == used.len() {
        Ok(crates)
    } else {
        Err(Failure::new(format!(
            "cargo tree has {} crates, and cargo metadata {}",
            used.len(),
            crates.len()
        )))
    }
}

/// The list. It has no time and no serial number: the same commit makes the same bytes.
fn bill(workspace: &Workspace, version: &str, crates: &[Crate]) -> Result<Value> {
    let file = workspace.root.join("Cargo.lock");
    let lock: Lock =
        toml::from_str(&files::read(&file)?).context(|| format!("can't read {}", file.display()))?;
    let sums: BTreeMap<(String, String), String> = lock
        .package
        .into_iter()
        .filter_map(|locked| Some(((locked.name, locked.version), locked.checksum?)))
        .collect();
    let beside = BESIDE_CRATES.map(|(name, licence)| {
        json!({ "type": "library", "bom-ref": name, "name": name, "licenses": [{ "expression": licence }] })
    });
    let components: Vec<Value> = crates
        .iter()
        .map(|krate| {
            let purl = format!("pkg:cargo/{}@{}", krate.name, krate.version);
            let mut component = json!({
                "type": "library",
                "bom-ref": purl,
                "name": krate.name,
                "version": krate.version,
                "licenses": [{ "expression": expression(krate) }],
            });
            // Crates of the workspace are not in a registry.
            if krate.source.is_some() {
                component["purl"] = purl.into();
            }
            if let Some(sum) = sums.get(&(krate.name.clone(), krate.version.clone())) {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
            }
            component
        })
        .chain(beside)
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "bom-ref": "oxcni", "name": "oxcni", "version": version } },
        "components": components,
    }))
}

/// The licence as an expression of SPDX; older crates write a slash for OR.
fn expression(krate: &Crate) -> String {
    krate.license.as_deref().unwrap_or("NOASSERTION").replace(" / ", " OR ").replace('/', " OR ")
}

/// The texts of all licences, each once, with the crates that bring it. A crate that brings none has the licence of
/// this project, or there is an error.
fn licences(workspace: &Workspace, crates: &[Crate]) -> Result<String> {
    let own = files::read(&workspace.root.join("LICENSE"))?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut page = String::from("What is linked into the programs, and its licences.\n\n");
    for (name, licence) in BESIDE_CRATES {
        page.push_str(&format!("{name}: {licence}\n"));
    }
    for krate in crates {
        page.push_str(&format!("{} {}: {}\n", krate.name, krate.version, expression(krate)));
        let mut brought = texts_of(krate)?;
        if brought.is_empty() {
            if expression(krate) != "Apache-2.0" {
                return Err(Failure::new(format!("the crate {} has no text of its licence", krate.name)));
            }
            brought.push(own.clone());
        }
        for text in brought {
            texts.entry(text).or_default().push(format!("{} {}", krate.name, krate.version));
        }
    }
    for (text, crates) in texts {
        page.push_str(&format!("\n{}\n{}\n\n{}\n", "-".repeat(79), crates.join(", "), text.trim_end()));
    }
    Ok(page)
}

/// The files of a crate that have a licence or a notice.
fn texts_of(krate: &Crate) -> Result<Vec<String>> {
    let folder = krate.manifest_path.parent().unwrap_or(Path::new("/"));
    let mut texts = files::entries(folder)?;
    texts.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        file.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|start| name.starts_with(start))
    });
    texts.iter().map(|file| files::read(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Crate, expression, licences, linked};
    use crate::workspace::Workspace;

    #[test]
    fn the_list_has_what_is_linked_and_no_macro() {
        let crates = linked(&Workspace::load().unwrap()).unwrap();
        let has = |name: &str| crates.iter().any(|krate| krate.name == name);
        for linked in ["cni-core", "kube-client", "rustls", "serde", "clap"] {
            assert!(has(linked), "{linked}");
        }
        for other in ["serde_derive", "cc", "proptest", "xtask"] {
            assert!(!has(other), "{other}");
        }
        assert!(crates.iter().all(|krate| expression(krate) != "NOASSERTION"));
    }

    #[test]
    fn a_crate_without_the_text_of_its_licence_has_that_of_this_project() {
        let workspace = Workspace::load().unwrap();
        let mut crates = linked(&workspace).unwrap();
        let page = licences(&workspace, &crates).unwrap();
        let (names, texts) = page.split_once("-----").unwrap();
        assert!(names.contains("glibc: LGPL") && names.contains("rust-std: MIT"));
        for krate in &crates {
            assert!(texts.contains(&format!("{} {}", krate.name, krate.version)), "{}", krate.name);
        }
        let own = crates.iter_mut().find(|krate| krate.name == "cni-core").unwrap();
        own.license = Some("MIT".to_owned());
        assert!(licences(&workspace, &crates).is_err());
    }

    #[test]
    fn a_slash_between_licences_is_an_or() {
        let krate = Crate {
            name: String::new(),
            version: String::new(),
            license: Some("MIT/Apache-2.0".to_owned()),
            manifest_path: "/".into(),
            source: None,
        };
        assert_eq!(expression(&krate), "MIT OR Apache-2.0");
    }
}

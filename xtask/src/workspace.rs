//! The packages and folders of this checkout, as cargo reports them.

use crate::error::{Context, Failure, Result};
use crate::platform::Platform;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts of `cargo metadata` that tasks need.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
    /// What programs are built for.
    #[serde(skip)]
    pub(crate) platform: Platform,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) targets: Vec<Target>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

/// `[package.metadata]` of a manifest.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    oxcni: PluginMetadata,
}

/// `[package.metadata.oxcni]`
#[derive(Debug, Default, Deserialize)]
struct PluginMetadata {
    /// Further names that the package's binary is installed under.
    #[serde(default)]
    aliases: Vec<String>,
}

/// One thing that cargo builds from a package.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

impl Workspace {
    /// Reads what `cargo metadata` reports; programs are built for this machine.
    pub(crate) fn load() -> Result<Self> {
        Self::load_for(None)
    }

    /// As [`Self::load`], with programs for the machine of a triple.
    pub(crate) fn load_for(triple: Option<&str>) -> Result<Self> {
        let out = cargo()
            .args(["metadata", "--format-version=1", "--no-deps"])
            .output()
            .context(|| "can't start cargo metadata".into())?;
        if !out.status.success() {
            let stderr = String::from_utf8_lossy(&out.stderr);
            return Err(Failure::new(format!("cargo metadata failed:\n{stderr}")));
        }
        let mut workspace: Self =
            serde_json::from_slice(&out.stdout).context(|| "can't read cargo metadata's answer".into())?;
        workspace.platform = Platform::of(triple)?;
        Ok(workspace)
    }

    /// The folder of this name for what is made for the platform.
    pub(crate) fn made(&self, name: &str) -> PathBuf {
        self.target.join(self.platform.folder(name))
    }

    /// Where `cargo xtask dist` puts what it builds.
    pub(crate) fn dist(&self) -> PathBuf {
        self.made("dist")
    }

    /// Where `cargo xtask dist` puts the multicall binary under all its names.
    pub(crate) fn dist_bin(&self) -> PathBuf {
        self.dist().join("bin")
    }

    /// Where `cargo xtask dist` puts each plugin as a binary of its own.
    pub(crate) fn dist_separate(&self) -> PathBuf {
        self.dist_bin().join("separate")
    }

    /// The binaries of the packages in `crates/`: what goes on nodes.
    pub(crate) fn shipped_binaries(&self) -> Vec<(&Package, &str)> {
        let crates = self.root.join("crates");
        self.packages
            .iter()
            .filter(|package| package.manifest_path.starts_with(&crates))
            .flat_map(|package| {
                package
                    .targets
                    .iter()
                    .filter(|target| target.is_binary())
                    .map(move |target| (package, target.name.as_str()))
            })
            .collect()
    }
}

/// Cargo reports `null` where a manifest has no such table.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Package {
    /// Further names that the package's binary is installed under.
    pub(crate) fn aliases(&self) -> &[String] {
        &self.metadata.oxcni.aliases
    }

    /// The folder with the package's manifest, where cargo runs its tests.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }
}

impl Target {
    fn is_binary(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }
}

/// The cargo that runs us, so that a `+toolchain` on the command line is kept.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

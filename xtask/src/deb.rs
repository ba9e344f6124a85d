//! The packages for Debian, by dpkg-deb: programs, units and documentation where the RPM packages have them.

use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::rpm::{DHCP, plugins, time_of_release, version};
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: &str = "usr/libexec/oxcni";
const DOCUMENTATION: &str = "usr/share/doc/oxcni";

/// Builds the packages into a folder, from the programs as `cargo xtask dist` puts them; gives their paths.
pub(crate) fn build(workspace: &Workspace, to: &Path) -> Result<Vec<PathBuf>> {
    let names = plugins(&workspace.dist_bin())?;
    let plugins: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != DHCP).collect();

    let oxcni = Stage::new(workspace, "oxcni")?;
    oxcni.copy(&workspace.dist_bin().join("oxcni"), &format!("{PROGRAMS}/oxcni"), 0o755)?;
    oxcni.copy(&workspace.dist().join("cnictl"), "usr/bin/cnictl", 0o755)?;
    for name in &plugins {
        oxcni.link(&format!("{PROGRAMS}/{name}"))?;
    }
    for name in plugins.iter().copied().chain([DHCP, "cnictl"]) {
        let readme = workspace.root.join("crates").join(name).join("README.md");
        if readme.exists() {
            oxcni.copy(&readme, &format!("{DOCUMENTATION}/{name}.md"), 0o644)?;
        }
    }
    oxcni.copy(&workspace.root.join("README.md"), &format!("{DOCUMENTATION}/README.md"), 0o644)?;
    oxcni.copy(&workspace.root.join("LICENSE"), &format!("{DOCUMENTATION}/copyright"), 0o644)?;

    let dhcp = Stage::new(workspace, "oxcni-dhcp")?;
    dhcp.link(&format!("{PROGRAMS}/dhcp"))?;
    for unit in ["oxcni-dhcp.service", "oxcni-dhcp.socket"] {
        let from = workspace.root.join("packaging/systemd").join(unit);
        dhcp.copy(&from, &format!("lib/systemd/system/{unit}"), 0o644)?;
    }
    dhcp.copy(&workspace.root.join("LICENSE"), "usr/share/doc/oxcni-dhcp/copyright", 0o644)?;
    for script in ["postinst", "prerm"] {
        let from = workspace.root.join(format!("packaging/deb/oxcni-dhcp.{script}"));
        dhcp.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
    }
    Ok(vec![oxcni.build(to)?, dhcp.build(to)?])
}

/// The name that Debian gives to this machine's architecture.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Failure::new(format!("there are no packages for {other}"))),
    }
}

/// The files of a package before they are packed.
struct Stage<'w> {
    workspace: &'w Workspace,
    name: &'static str,
    folder: PathBuf,
}

impl Stage<'_> {
    fn new<'w>(workspace: &'w Workspace, name: &'static str) -> Result<Stage<'w>> {
        let folder = workspace.target.join("deb").join(name);
        let _ = fs::remove_dir_all(&folder);
        Ok(Stage { workspace, name, folder })
    }

    /// The place of a file, in a folder that exists.
    fn place(&self, file: &str) -> Result<PathBuf> {
        let place = self.folder.join(file);
        let folder = place.parent().unwrap_or(&place);
        fs::create_dir_all(folder).context(|| format!("can't make {}", folder.display()))?;
        Ok(place)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        fs::copy(from, &to)
            .and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(mode)))
            .context(|| format!("can't copy {} to {}", from.display(), to.display()))
    }

    /// Makes a name of the program `oxcni`.
    fn link(&self, name: &str) -> Result<()> {
        let place = self.place(name)?;
        symlink("oxcni", &place).context(|| format!("can't make {}", place.display()))
    }

    fn build(&self, to: &Path) -> Result<PathBuf> {
        let (version, architecture) = (version(self.workspace)?, architecture()?);
        let template = self.workspace.root.join(format!("packaging/deb/{}.control", self.name));
        let text = fs::read_to_string(&template).context(|| format!("can't read {}", template.display()))?;
        let first = format!("Version: {version}\nArchitecture: {architecture}\n");
        let control = self.place("DEBIAN/control")?;
        fs::write(&control, first + &text.replace("@VERSION@", &version))
            .context(|| format!("can't write {}", control.display()))?;
        let package = to.join(format!("{}_{version}_{architecture}.deb", self.name));
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", "-Zxz", "--build"])
            .args([&self.folder, &package])
            .env("SOURCE_DATE_EPOCH", time_of_release(self.workspace)?);
        quietly(&mut pack)?;
        Ok(package)
    }
}

//! The packages for Debian, by dpkg-deb: programs, units and documentation where the RPM packages have them.

use crate::dist::LICENCES;
use crate::error::{Context, Failure, Result};
use crate::files;
use crate::process::quietly;
use crate::rpm::{DHCP, plugins, time_of_release, version};
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: &str = "usr/libexec/oxcni";
const DOCUMENTATION: &str = "usr/share/doc/oxcni";

/// Man pages of what is not in the package oxcni.
const OF_DHCP: &str = "usr/share/man/man8/oxcni-dhcp.8.gz";
const OF_THE_SERVICE: &str = "usr/share/man/man8/oxcni-multus-config.8.gz";

/// Builds the packages into a folder, from the programs as `cargo xtask dist` puts them; gives their paths.
pub(crate) fn build(workspace: &Workspace, to: &Path) -> Result<Vec<PathBuf>> {
    let names = plugins(workspace, &workspace.dist_bin())?;
    let plugins: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != DHCP).collect();

    let oxcni = Stage::new(workspace, "oxcni")?;
    oxcni.copy(&workspace.dist_bin().join("oxcni"), &format!("{PROGRAMS}/oxcni"), 0o755)?;
    oxcni.copy(&workspace.dist().join("cnictl"), "usr/bin/cnictl", 0o755)?;
    for name in &plugins {
        oxcni.link(&format!("{PROGRAMS}/{name}"))?;
    }
    oxcni.copy_all(&workspace.dist().join("share"), "usr/share")?;
    oxcni.remove(OF_THE_SERVICE)?;
    // Debian looks for licences in the documentation.
    let licences = workspace.dist().join("share").join(LICENCES);
    oxcni.copy(&licences, &format!("{DOCUMENTATION}/licences.txt"), 0o644)?;
    fs::remove_dir_all(oxcni.folder.join("usr/share/licenses")).context(|| "can't remove a folder".into())?;
    // Debian's zsh looks in another folder.
    let zsh = oxcni.folder.join("usr/share/zsh");
    fs::rename(zsh.join("site-functions"), zsh.join("vendor-completions"))
        .context(|| format!("can't rename a folder of {}", zsh.display()))?;
    oxcni.copy(&workspace.root.join("LICENSE"), &format!("{DOCUMENTATION}/copyright"), 0o644)?;

    let dhcp = Stage::new(workspace, "oxcni-dhcp")?;
    dhcp.link(&format!("{PROGRAMS}/dhcp"))?;
    dhcp.copy(&oxcni.folder.join(OF_DHCP), OF_DHCP, 0o644)?;
    oxcni.remove(OF_DHCP)?;
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

/// The name that Debian gives to the architecture of a machine.
fn architecture(machine: &str) -> Result<&'static str> {
    match machine {
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
        let folder = workspace.made("deb").join(name);
        let _ = fs::remove_dir_all(&folder);
        Ok(Stage { workspace, name, folder })
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        files::copy(from, &self.folder.join(to), mode)
    }

    /// Copies the files of a folder.
    fn copy_all(&self, from: &Path, to: &str) -> Result<()> {
        for file in files::files_below(from)? {
            let name = file.strip_prefix(from).unwrap_or(&file);
            files::copy(&file, &self.folder.join(to).join(name), 0o644)?;
        }
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<()> {
        let file = self.folder.join(file);
        fs::remove_file(&file).context(|| format!("can't remove {}", file.display()))
    }

    /// Makes a name of the program `oxcni`.
    fn link(&self, name: &str) -> Result<()> {
        let place = self.folder.join(name);
        files::make_folder_of(&place)?;
        symlink("oxcni", &place).context(|| format!("can't make {}", place.display()))
    }

    fn build(&self, to: &Path) -> Result<PathBuf> {
        let (version, architecture) =
            (version(self.workspace)?, architecture(self.workspace.platform.machine())?);
        let template = self.workspace.root.join(format!("packaging/deb/{}.control", self.name));
        let text = files::read(&template)?.replace("@VERSION@", &version);
        let first = format!("Version: {version}\nArchitecture: {architecture}\n");
        files::write(&self.folder.join("DEBIAN/control"), &(first + &text))?;
        let package = to.join(format!("{}_{version}_{architecture}.deb", self.name));
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", "-Zxz", "--build"])
            .args([&self.folder, &package])
            .env("SOURCE_DATE_EPOCH", time_of_release(self.workspace)?);
        quietly(&mut pack)?;
        Ok(package)
    }
}

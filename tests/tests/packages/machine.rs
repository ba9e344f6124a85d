//! A machine in a folder, on which dnf installs packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

/// Where `cargo xtask rpm` puts its work, and the environment variable for another place.
pub(crate) fn built() -> PathBuf {
    let folder = std::env::var_os("OXCNI_RPM_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rpm"), PathBuf::from);
    fs::canonicalize(&folder).unwrap_or_else(|err| panic!("{}: {err} (`cargo xtask rpm`)", folder.display()))
}

/// The packages, in the order of their names.
pub(crate) fn packages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for architecture in ["noarch", std::env::consts::ARCH] {
        found.extend(entries(&built().join("RPMS").join(architecture)));
    }
    found.sort();
    assert_eq!(found.len(), 6, "{found:?}");
    found
}

/// The package of a name.
pub(crate) fn package(name: &str) -> PathBuf {
    let is_named = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with("-0."))
    };
    packages().into_iter().find(is_named).unwrap_or_else(|| panic!("no package {name}"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Runs a command that must succeed; its output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let (ok, text) = tried(command);
    assert!(ok, "{command:?}\n{text}");
    text
}

/// Whether a command succeeds, and its output.
pub(crate) fn tried(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|err| panic!("can't start {command:?}: {err}"));
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.success(), text)
}

/// A repository of our packages in two releases, and of those that stand in for a distribution's.
fn repository() -> &'static Path {
    static REPOSITORY: OnceLock<PathBuf> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/packages/stand-ins.spec");
        rpmbuild(&folder, &specs, &[]);
        let programs = folder.join("next");
        fs::create_dir(&programs).unwrap();
        // Another program than the first: a byte behind its end changes nothing of it.
        run(Command::new("sh").arg("-c").arg(format!(
            "cd {}; for package in {}/RPMS/*/*.rpm; do rpm2cpio $package | cpio -id --quiet; done; \
             mkdir bin; cp usr/libexec/oxcni/oxcni bin; echo >> bin/oxcni; cp -r usr/bin/cnictl usr/share .",
            programs.display(),
            built().display()
        )));
        let sources = format!("_sourcedir {}/SOURCES", built().display());
        let prebuilt = format!("oxcni_prebuilt {}", programs.display());
        rpmbuild(&folder, &built().join("SPECS/oxcni.spec"), &[&sources, &prebuilt, "dist .2"]);
        let repository = folder.join("RPMS");
        for package in packages() {
            fs::copy(&package, repository.join(package.file_name().unwrap())).unwrap();
        }
        run(Command::new("createrepo_c").arg("-q").arg(&repository));
        repository
    })
}

fn rpmbuild(top: &Path, spec: &Path, definitions: &[&str]) {
    let mut command = Command::new("rpmbuild");
    command.args(["--quiet", "--nodeps", "-bb", "--define", &format!("_topdir {}", top.display())]);
    for definition in definitions {
        command.args(["--define", definition]);
    }
    run(command.arg(spec));
}

/// A machine without any package.
pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    /// A machine on which units are active by their names.
    pub(crate) fn new(active: &[&str]) -> Machine {
        let machine = Machine { root: tempfile::tempdir().unwrap() };
        for folder in ["dev", "active"] {
            fs::create_dir(machine.path(folder)).unwrap();
        }
        mknod(&machine.path("dev/null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
            .unwrap();
        for unit in active {
            fs::write(machine.path("active").join(unit), "").unwrap();
        }
        machine
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|err| panic!("{inside}: {err}"))
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        fs::create_dir_all(self.path(inside).parent().unwrap()).unwrap();
        fs::write(self.path(inside), text).unwrap();
    }

    /// Runs dnf without network on the repository; whether it succeeds, and its output.
    pub(crate) fn try_dnf(&self, arguments: &[&str]) -> (bool, String) {
        let mut dnf = Command::new("dnf");
        dnf.args(["-y", "--nogpgcheck", "--releasever=9", "--repo=test", "--setopt=install_weak_deps=False"])
            .arg("--setopt=clean_requirements_on_remove=False")
            .arg(format!("--installroot={}", self.root().display()))
            .arg(format!("--repofrompath=test,file://{}", repository().display()))
            .args(arguments);
        tried(&mut dnf)
    }

    /// As [`Machine::try_dnf`], which must succeed, as must all scriptlets.
    #[track_caller]
    pub(crate) fn dnf(&self, arguments: &[&str]) {
        let (ok, text) = self.try_dnf(arguments);
        assert!(ok, "dnf {arguments:?}:\n{text}");
        let complaint = text.lines().find(|line| {
            ["scriptlet failed", "warning: %", "rpm-tmp", "can't"].iter().any(|word| line.contains(word))
        });
        assert_eq!(complaint, None, "dnf {arguments:?}:\n{text}");
    }

    /// Runs rpm on the machine's database.
    #[track_caller]
    pub(crate) fn rpm(&self, arguments: &[&str]) -> String {
        run(Command::new("rpm").arg("--root").arg(self.root()).args(arguments))
    }

    /// The calls of systemctl since the last time, of these verbs.
    pub(crate) fn systemctl(&self, verbs: &[&str]) -> Vec<String> {
        let log = self.path("systemctl.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let calls = text.lines().filter(|line| line.split(' ').any(|word| verbs.contains(&word)));
        calls.map(str::to_owned).collect()
    }

    /// All files that are no database, cache or log of the package manager.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        walk(self.root(), self.root(), &mut files);
        files.retain(|file| {
            ["var", "root", "dev", "active", "etc/dnf", "systemctl.log"]
                .iter()
                .all(|own| !file.starts_with(own))
        });
        files
    }
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for path in entries(folder) {
        if path.symlink_metadata().unwrap().is_dir() {
            walk(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

//! Installing, upgrading and removing the packages for Debian by dpkg.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Machine, run, tried};
use crate::packages_test;

const PROGRAM: &str = "/usr/libexec/oxcni/oxcni";
const UNITS: [&str; 2] = ["oxcni-dhcp.service", "oxcni-dhcp.socket"];

/// `oxcni` and `oxcni-dhcp`, as `cargo xtask test` builds them.
fn packages() -> [PathBuf; 2] {
    let folder = std::env::var_os("OXCNI_DEB_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/deb"), PathBuf::from);
    let files = || fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    ["oxcni_", "oxcni-dhcp_"].map(|name| {
        let is_it = |file: &PathBuf| {
            let file = file.file_name().unwrap().to_string_lossy();
            file.starts_with(name) && file.ends_with(".deb")
        };
        files().map(|entry| entry.unwrap().path()).find(is_it).unwrap_or_else(|| panic!("no package {name}"))
    })
}

/// The next version of both packages, with a program that is a byte longer.
fn next(machine: &Machine) -> [PathBuf; 2] {
    packages().map(|package| {
        let (folder, to) = (machine.path("/var/next"), machine.path("/var/next.d"));
        fs::create_dir_all(&to).unwrap();
        let script = r#"
            dpkg-deb -R "$1" "$2"
            sed -i 's/^Version: .*/&.1/; s/^\(Depends: oxcni (= .*\))$/\1.1)/' "$2/DEBIAN/control"
            if [ -f "$2$3" ]; then echo >> "$2$3"; fi
            dpkg-deb --root-owner-group -b "$2" "$4" && rm -r "$2""#;
        let file = to.join(package.file_name().unwrap());
        run(Command::new("sh")
            .args(["-euc", script, "sh"])
            .args([&package, &folder])
            .arg(PROGRAM)
            .arg(&file));
        file
    })
}

/// A machine with a shell, on which dpkg knows no package.
fn machine(active: &[&str]) -> Machine {
    let machine = Machine::new(active);
    machine.dnf(&["install", "systemd"]);
    for file in ["status", "info/format", "updates/", "triggers/"] {
        machine.write(&format!("/var/lib/dpkg/{file}.keep"), "");
    }
    machine.write("/var/lib/dpkg/status", "");
    machine
}

fn dpkg(machine: &Machine, arguments: &[&str], packages: &[PathBuf]) -> (bool, String) {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", machine.root().display())).args(arguments).args(packages);
    tried(dpkg.env("DEBIAN_FRONTEND", "noninteractive"))
}

#[track_caller]
fn succeeds(machine: &Machine, arguments: &[&str], packages: &[PathBuf]) {
    let (ok, text) = dpkg(machine, arguments, packages);
    assert!(ok && !text.contains("warning: unable"), "dpkg {arguments:?}:\n{text}");
}

packages_test! {
    fn dpkg_installs_upgrades_and_removes_and_leaves_nothing {
        let machine = machine(&["oxcni-dhcp.service"]);
        let before = machine.files();
        // It is unpacked, and configured once the other is there.
        let (ok, refused) = dpkg(&machine, &["-i"], &packages()[1..]);
        assert!(!ok && refused.contains("depends on oxcni"), "{refused}");

        succeeds(&machine, &["-i"], &packages());
        assert_eq!(
            machine.systemctl(&["enable", "try-restart", "daemon-reload"]),
            ["daemon-reload", "enable --now oxcni-dhcp.socket", "try-restart oxcni-dhcp.service"]
        );
        let names = run(Command::new(machine.path(PROGRAM)).arg("list"));
        for name in names.lines() {
            let link = machine.path("/usr/libexec/oxcni").join(name);
            assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(machine.path(PROGRAM)).unwrap(), "{name}");
        }
        assert_eq!(machine.path(PROGRAM).metadata().unwrap().mode() & 0o7777, 0o755);
        for unit in UNITS {
            assert!(machine.read(&format!("/lib/systemd/system/{unit}")).contains("Documentation="), "{unit}");
        }
        for page in ["man1/cnictl.1.gz", "man8/oxcni-bridge.8.gz", "man8/oxcni-dhcp.8.gz"] {
            assert!(machine.path("/usr/share/man").join(page).is_file(), "{page}");
        }
        for file in machine.files().difference(&before) {
            let is = machine.root().join(file).symlink_metadata().unwrap();
            let writable = !is.is_symlink() && is.mode() & 0o6022 != 0;
            assert!(!writable && (is.uid(), is.gid()) == (0, 0), "{}: {:o}", file.display(), is.mode());
        }

        let in_use = fs::File::open(machine.path(PROGRAM)).unwrap();
        succeeds(&machine, &["-i"], &next(&machine));
        assert_eq!(machine.systemctl(&["enable", "disable", "try-restart"]), ["try-restart oxcni-dhcp.service"]);
        let (old, new) = (in_use.metadata().unwrap(), machine.path(PROGRAM).metadata().unwrap());
        assert!(new.ino() != old.ino() && new.size() == old.size() + 1, "a program in use was written to");

        let (ok, refused) = dpkg(&machine, &["-r", "oxcni"], &[]);
        assert!(!ok && refused.contains("oxcni-dhcp depends on oxcni"), "{refused}");
        succeeds(&machine, &["-r", "oxcni-dhcp", "oxcni"], &[]);
        assert_eq!(
            machine.systemctl(&["disable", "start", "restart"]),
            ["disable --now oxcni-dhcp.socket oxcni-dhcp.service"]
        );
        assert_eq!(machine.files(), before);
        assert!(!machine.path("/usr/libexec/oxcni").exists());
    }

    fn dpkg_works_where_no_service_runs {
        let machine = machine(&[]);
        fs::remove_dir(machine.path("/run/systemd/system")).unwrap();
        succeeds(&machine, &["-i"], &packages());
        succeeds(&machine, &["-r", "oxcni-dhcp", "oxcni"], &[]);
        assert!(machine.systemctl(&["enable", "disable", "try-restart"]).is_empty());
    }
}

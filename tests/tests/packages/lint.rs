//! What rpmlint and systemd-analyze say of packages and units.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{built, packages, run, tried};
use crate::packages_test;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

/// The highest exposure of a unit, in the scale of `systemd-analyze security`.
const EXPOSURE: f64 = 4.0;

packages_test! {
    fn rpmlint_finds_nothing_but_what_the_filter_names {
        let filter = packaging().join("rpm/rpmlint.toml");
        let mut rpmlint = Command::new("rpmlint");
        rpmlint.arg("-c").arg(&filter).arg(built().join("SPECS/oxcni.spec")).args(packages());
        let (ok, text) = tried(&mut rpmlint);
        let found: Vec<_> = text.lines().filter(|line| line.contains(": E: ") || line.contains(": W: ")).collect();
        assert!(ok && found.is_empty(), "{text}");
    }

    fn the_units_are_valid_and_closed {
        // Verified in a root of their own, where their programs are.
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("usr/lib/systemd/system");
        let programs = root.path().join("usr/libexec/oxcni");
        for folder in [&units, &programs] {
            fs::create_dir_all(folder).unwrap();
        }
        for program in ["dhcp", "oxcni-multus-config"] {
            fs::copy("/bin/true", programs.join(program)).unwrap();
        }
        for unit in ["sockets.target", "multi-user.target", "basic.target", "sysinit.target", "shutdown.target",
            "network.target", "system.slice", "-.slice", "-.mount", "tmp.mount"] {
            let from = Path::new("/lib/systemd/system").join(unit);
            if from.exists() {
                fs::copy(from, units.join(unit)).unwrap();
            }
        }
        let mut verify = Command::new("systemd-analyze");
        verify.arg(format!("--root={}", root.path().display())).args(["verify", "--man=no"]);
        for unit in ["oxcni-dhcp.socket", "oxcni-dhcp.service", "oxcni-multus-config.service"] {
            fs::copy(packaging().join("systemd").join(unit), units.join(unit)).unwrap();
            verify.arg(unit);
        }
        let (ok, text) = tried(&mut verify);
        let complaints: Vec<_> = text.lines().filter(|line| line.contains("oxcni")).collect();
        assert!(ok && complaints.is_empty(), "{text}");
        for unit in ["oxcni-dhcp.service", "oxcni-multus-config.service"] {
            let mut security = Command::new("systemd-analyze");
            let text = run(security.args(["security", "--offline=true", "--no-pager"]).arg(units.join(unit)));
            let line = text.lines().find(|line| line.contains("Overall exposure level")).expect("a level");
            let level = line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).expect("a number");
            assert!(level <= EXPOSURE, "{line}");
        }
    }
}

//! Installing, upgrading and removing the packages by dnf.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, run, tried};
use crate::packages_test;

const STAND_INS: [&str; 5] = ["install", "microshift-multus", "cri-o", "systemd", "greenboot"];
const ACTIVE: [&str; 3] = ["crio.service", "oxcni-dhcp.service", "oxcni-multus-config.service"];
const LARGEST: u64 = 12_000_000;

/// The links of the packages, each of which must lead to a program.
fn links_resolve(machine: &Machine, packages: &[&str]) {
    for package in packages {
        for file in machine.rpm(&["-ql", package]).lines() {
            let path = machine.path(file);
            let Ok(target) = fs::read_link(&path) else { continue };
            assert!(target.is_relative(), "{file} leads out of an installation root: {}", target.display());
            let program = fs::canonicalize(&path).unwrap_or_else(|err| panic!("{file}: {err}"));
            assert!(program.starts_with(machine.root()), "{file}: {}", program.display());
            assert_eq!(program.metadata().unwrap().permissions().mode() & 0o7777, 0o755, "{file}");
        }
    }
}

packages_test! {
    fn beside_microshifts_multus_crio_is_restarted_at_install_and_removal_alone {
        let machine = Machine::new(&ACTIVE);
        machine.dnf(&STAND_INS);
        let before = machine.files();
        machine.dnf(&["install", "oxcni-microshift-0.1.0-1", "oxcni-dhcp-0.1.0-1", "oxcni-0.1.0-1"]);
        assert_eq!(
            machine.systemctl(&["preset", "start", "restart"]),
            [
                "--no-reload preset oxcni-dhcp.socket",
                "start oxcni-dhcp.socket",
                "restart crio.service"
            ]
        );
        links_resolve(&machine, &["oxcni", "oxcni-dhcp"]);
        assert!(machine.read("/etc/crio/crio.conf.d/13-oxcni.conf").contains("/usr/libexec/oxcni"));
        assert_eq!(machine.rpm(&["-V", "oxcni", "oxcni-dhcp", "oxcni-microshift", "microshift-multus"]), "");
        assert!(!machine.path("/opt").exists(), "an image may have it read-only");

        machine.write("/etc/crio/crio.conf.d/13-oxcni.conf", "# changed by the administrator\n");
        let program = machine.path("/usr/libexec/oxcni/oxcni");
        let (inode, size) = (program.metadata().unwrap().ino(), program.metadata().unwrap().size());
        let in_use = fs::File::open(&program).unwrap();
        machine.dnf(&["upgrade", "oxcni*"]);
        assert_eq!(machine.systemctl(&["preset", "start", "restart", "try-restart"]), ["try-restart oxcni-dhcp.service"]);
        assert_eq!(program.metadata().unwrap().size(), size + 1);
        assert_ne!(program.metadata().unwrap().ino(), inode);
        assert_eq!(in_use.metadata().unwrap().size(), size, "a program in use was written to");
        assert_eq!(machine.read("/etc/crio/crio.conf.d/13-oxcni.conf"), "# changed by the administrator\n");
        links_resolve(&machine, &["oxcni", "oxcni-dhcp"]);

        machine.dnf(&["remove", "oxcni*"]);
        assert_eq!(
            machine.systemctl(&["disable", "restart", "try-restart"]),
            ["restart crio.service", "--no-reload disable --now oxcni-dhcp.socket oxcni-dhcp.service"],
            "CRI-O leaves our folder before the programs go"
        );
        // rpm keeps what an administrator wrote.
        fs::remove_file(machine.path("/etc/crio/crio.conf.d/13-oxcni.conf.rpmsave")).unwrap();
        assert_eq!(machine.files(), before);
    }

    fn without_pods_it_takes_the_place_of_microshifts_multus_and_gives_it_back {
        let machine = Machine::new(&ACTIVE);
        machine.dnf(&STAND_INS);
        machine.dnf(&["install", "microshift-sriov-release-info"]);
        let before = machine.files();
        let (ok, refused) = machine.try_dnf(&["install", "microshift-multus-oxcni"]);
        assert!(!ok && refused.contains("conflicts"), "{refused}");
        machine.dnf(&["swap", "microshift-multus", "microshift-multus-oxcni"]);
        assert_eq!(machine.rpm(&["-q", "--whatprovides", "--qf", "%{name}\n", "microshift-multus"]), "microshift-multus-oxcni\n");
        machine.rpm(&["-q", "microshift-sriov-release-info"]);
        assert_eq!(
            machine.systemctl(&["preset", "start", "restart", "try-restart"]),
            [
                "--no-reload preset oxcni-multus-config.service",
                "start oxcni-multus-config.service",
                "restart crio.service",
                "try-restart oxcni-multus-config.service"
            ]
        );
        links_resolve(&machine, &["oxcni", "microshift-multus-oxcni"]);
        assert!(!machine.files().iter().any(|file| file.starts_with("etc/microshift")), "Enabled deploys the pods");
        let check = machine.path("/etc/greenboot/check/required.d/42_oxcni_multus_check.sh");
        assert_eq!(check.metadata().unwrap().permissions().mode() & 0o7777, 0o755);

        machine.write("/etc/cni/net.d/10-ovn-kubernetes.conf", "the default network");
        machine.write("/etc/cni/net.d/00-multus.conflist", "made by the service");
        machine.write("/etc/cni/net.d/multus.d/multus.kubeconfig", "made by the service");
        machine.dnf(&["swap", "microshift-multus-oxcni", "microshift-multus"]);
        assert_eq!(
            machine.systemctl(&["disable", "restart"]),
            ["--no-reload disable --now oxcni-multus-config.service", "restart crio.service"]
        );
        machine.dnf(&["remove", "oxcni"]);
        let mut left = machine.files();
        assert!(left.remove(Path::new("etc/cni/net.d/10-ovn-kubernetes.conf")));
        assert_eq!(left, before);
    }

    fn the_links_in_opt_stand_beside_the_distributions_plugins_and_not_beside_kubernetes {
        let machine = Machine::new(&[]);
        machine.dnf(&["install", "systemd", "containernetworking-plugins"]);
        let before = machine.files();
        machine.dnf(&["install", "oxcni-cni-bin"]);
        links_resolve(&machine, &["oxcni-cni-bin"]);
        let names = |folder: &str| {
            let mut names: Vec<_> =
                fs::read_dir(machine.path(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names.retain(|name| name != "oxcni");
            names
        };
        assert_eq!(names("/opt/cni/bin"), names("/usr/libexec/oxcni"));
        let (ok, refused) = machine.try_dnf(&["install", "kubernetes-cni"]);
        assert!(!ok && refused.contains("conflicts"), "{refused}");
        machine.dnf(&["remove", "oxcni-cni-bin", "oxcni-dhcp", "oxcni"]);
        assert_eq!(machine.files(), before);
        machine.dnf(&["install", "kubernetes-cni"]);
    }

    fn no_scriptlet_fails_where_no_service_runs_and_crio_is_not_started {
        let machine = Machine::new(&[]);
        machine.dnf(&STAND_INS);
        machine.dnf(&["install", "oxcni-microshift", "oxcni-dhcp"]);
        assert!(machine.systemctl(&["restart"]).is_empty());
        // As while an image is built: there is a systemctl, and no systemd.
        fs::remove_dir(machine.path("/run/systemd/system")).unwrap();
        machine.dnf(&["remove", "oxcni*"]);
        machine.dnf(&["swap", "microshift-multus", "microshift-multus-oxcni"]);
        machine.dnf(&["install", "oxcni-dhcp"]);
        fs::remove_file(machine.path("/usr/bin/systemctl")).unwrap();
        machine.dnf(&["remove", "microshift-multus-oxcni", "oxcni-dhcp", "oxcni"]);
        assert!(machine.systemctl(&["start", "restart", "preset", "disable"]).is_empty());
    }

    fn the_files_of_oxcni_are_few_and_small {
        let machine = Machine::new(&[]);
        machine.dnf(&["install", "systemd", "oxcni", "oxcni-cnictl"]);
        for file in [
            "/usr/bin/cnictl",
            "/usr/share/man/man1/cnictl.1.gz",
            "/usr/share/man/man1/cnictl-add.1.gz",
            "/usr/share/man/man8/oxcni.8.gz",
            "/usr/share/man/man8/oxcni-bridge.8.gz",
            "/usr/share/man/man8/oxcni-multus.8.gz",
            "/usr/share/bash-completion/completions/cnictl",
            "/usr/share/fish/vendor_completions.d/cnictl.fish",
            "/usr/share/zsh/site-functions/_cnictl",
            "/usr/share/licenses/oxcni/LICENSE",
            "/usr/share/licenses/oxcni/crates.txt",
        ] {
            assert_ne!(machine.path(file).metadata().unwrap().len(), 0, "{file}");
        }
        let size: u64 = machine.rpm(&["-q", "--qf", "%{size}", "oxcni"]).parse().unwrap();
        assert!(size <= LARGEST, "{size} bytes");
    }

    fn help_errors_and_units_name_pages_that_are_installed {
        let machine = Machine::new(&[]);
        machine.dnf(&["install", "systemd", "oxcni", "oxcni-cnictl"]);
        let program = machine.path("/usr/libexec/oxcni/oxcni");
        let names = run(Command::new(&program).arg("list"));
        let others = ["oxcni", "oxcni-multus-config", "thin_entrypoint"];
        let mut texts: Vec<String> = names.lines().chain(others)
            .map(|name| run(Command::new(&program).arg0(name).arg("--help")))
            .collect();
        let cnictl = machine.path("/usr/bin/cnictl");
        texts.push(run(Command::new(&cnictl).arg("--help")));
        let (ok, error) = tried(Command::new(&cnictl).args(["--conf-dir", "/nowhere", "status", "net"]));
        assert!(!ok, "{error}");
        texts.push(error);
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
        for unit in ["oxcni-dhcp.service", "oxcni-dhcp.socket", "oxcni-multus-config.service"] {
            texts.push(fs::read_to_string(units.join(unit)).unwrap());
        }
        for text in texts {
            let (_, page) = text.split_once("/usr/share/doc/oxcni/").unwrap_or_else(|| panic!("no page: {text}"));
            let page = page.split(|c: char| c.is_whitespace() || c == ',').next().unwrap();
            assert!(machine.path("/usr/share/doc/oxcni").join(page).is_file(), "{page}: {text}");
        }
    }
}

//! The image of the DaemonSets: it is built, and has what their commands call.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use oxcni_tests::Plugins;
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::run;
use crate::packages_test;

/// podman with a store of its own, which touches no other.
struct Store {
    folder: TempDir,
}

impl Store {
    fn podman(&self) -> Command {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(self.folder.path().join("root"));
        podman.arg("--runroot").arg(self.folder.path().join("run"));
        podman.args(["--storage-driver", "vfs"]);
        podman
    }

    /// Makes the image `base`: a shell and the tools that manifests for the Go images call.
    fn make_base(&self) {
        let bin = self.folder.path().join("base/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "ln", "mkdir"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let archive = self.folder.path().join("base.tar");
        run(Command::new("tar")
            .arg("-C")
            .arg(self.folder.path().join("base"))
            .arg("-cf")
            .args([&archive])
            .arg("."));
        run(self.podman().args(["import", "-q"]).arg(&archive).arg("base"));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // An image that is mounted is no folder that could be removed.
        let _ = self.podman().args(["image", "unmount", "--all"]).output();
    }
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes")
}

/// The programs that the manifests start in the image.
fn programs_of_manifests() -> Vec<String> {
    let mut found = Vec::new();
    for file in ["base/multus/daemonset.yaml", "components/dhcp/daemonset.yaml"] {
        let text = fs::read_to_string(packaging().join(file)).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        let pod = &manifest["spec"]["template"]["spec"];
        for container in
            ["initContainers", "containers"].iter().filter_map(|list| pod[*list].as_array()).flatten()
        {
            found.push(container["command"][0].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(found.len(), 3, "{found:?}");
    found
}

packages_test! {
    fn the_image_is_built_and_has_the_programs_of_the_manifests {
        let store = Store { folder: tempfile::tempdir().unwrap() };
        store.make_base();
        let mut build = store.podman();
        build.args(["build", "--isolation=chroot", "--network=host", "--pull=never", "--build-arg=BASE=localhost/base"]);
        build.args(["-t", "oxcni", "-f"]).arg(packaging().join("Containerfile"));
        run(build.arg(Plugins::Multicall.dir()));
        let command = run(store.podman().args(["image", "inspect", "-f", "{{index .Config.Cmd 0}}", "oxcni"]));
        let root = PathBuf::from(run(store.podman().args(["image", "mount", "oxcni"])).trim());

        let mut programs = programs_of_manifests();
        programs.push(command.trim().to_owned());
        let oxcni = root.join("usr/src/plugins/bin/oxcni");
        for name in run(Command::new(&oxcni).arg("list")).lines() {
            programs.push(format!("/usr/src/plugins/bin/{name}"));
        }
        assert!(programs.len() > 10, "{programs:?}");
        programs.push("/usr/src/multus-cni/bin/multus".to_owned());
        for program in programs {
            let text = run(Command::new(root.join(program.trim_start_matches('/'))).arg("--help"));
            assert!(text.contains("/usr/share/doc/oxcni/"), "{program}: {text}");
        }
    }
}

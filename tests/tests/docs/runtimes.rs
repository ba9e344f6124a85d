//! What the pages show of the settings of container runtimes: each is read by that runtime, or is that of a package.

use std::fs;
use std::process::Command;

use oxcni_tests::requirement;

use crate::book::{blocks, page, root};

/// The one block of settings that a page shows.
fn settings(name: &str) -> String {
    let found = blocks(&page(name), "toml");
    assert_eq!(found.len(), 1, "{name}");
    found.concat()
}

/// What a program prints on standard output.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_settings_are_those_that_runtimes_read() {
    let test = "runtimes::the_settings_are_those_that_runtimes_read";
    if !requirement::met_on_any_kernel(test, &[], "settings are files") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str| {
        let file = folder.path().join(name.replace('/', "-"));
        fs::write(&file, settings(name)).expect("writing settings");
        file
    };
    let containerd = write("install/containerd.md");
    let read = printed(Command::new("containerd").arg("--config").arg(containerd).args(["config", "dump"]));
    assert!(read.contains("bin_dir = \"/usr/libexec/oxcni\""), "{read}");

    let podman = write("install/podman.md");
    let store = |name: &str| folder.path().join(name);
    let mut info = Command::new("podman");
    info.arg("--root")
        .arg(store("root"))
        .arg("--runroot")
        .arg(store("run"))
        .args(["--storage-driver", "vfs"]);
    info.env("CONTAINERS_CONF", podman).args(["info", "--format", "{{.Host.NetworkBackend}}"]);
    assert_eq!(printed(&mut info).trim(), "cni");
}

#[test]
fn the_settings_of_crio_have_the_keys_of_a_package() {
    let of_package = fs::read_to_string(root().join("packaging/crio/13-oxcni.conf")).expect("a file");
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| line.split(" = ").next().unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(keys(&settings("install/crio.md")), keys(&of_package));
}

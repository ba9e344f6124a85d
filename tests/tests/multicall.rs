//! One program under many names: how it is installed, and that a delegate in its own process is
//! the same as one that is executed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use oxcni_tests::{Case, Host, Plugins, compare, observe, programs_executed, requirement, with_keys};
use serde_json::{Value, json};

const NAMES: [&str; 5] = ["bridge", "cnv-bridge", "host-local", "static", "loopback"];

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-multi", "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

fn host(test: &str) -> Option<Host> {
    requirement::met(test, &[]).then(|| Host::new(Plugins::Multicall))
}

/// The names that `oxcni install` puts into a folder of the host.
fn installed(host: &Host, folder: &str) -> BTreeMap<String, fs::Metadata> {
    fs::read_dir(host.path(folder))
        .expect("the folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.file_name().into_string().expect("a name"), fs::metadata(entry.path()).expect("a file"))
        })
        .collect()
}

fn oxcni() -> String {
    Plugins::Multicall
        .dir()
        .canonicalize()
        .expect("the plugins are built")
        .join("oxcni")
        .display()
        .to_string()
}

#[test]
fn in_process_and_executed_delegates_give_the_same() {
    if !requirement::met("in_process_and_executed_delegates_give_the_same", &[]) {
        return;
    }
    let full = json!({ "ipam": { "type": "host-local", "subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.2" } });
    let cases = [
        config(json!({})),
        config(json!({ "cniVersion": "0.2.0" })),
        config(
            json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.1.2.3/24" }], "dns": { "nameservers": ["1.1.1.1"] } } }),
        ),
        config(json!({ "ipam": { "type": "static", "addresses": [{ "address": "nonsense" }] } })),
        config(json!({ "ipam": { "type": "host-local" } })),
        config(full),
    ];
    for config in cases {
        let case = Case { containers: 2, ..Case::new("in process and by exec", config) };
        let differences =
            compare(&observe(Plugins::Separate, &case), &observe(Plugins::Multicall, &case), &[]);
        assert!(differences.is_empty(), "{:#}\n{}", case.config, differences.join("\n"));
    }
}

#[test]
fn errors_of_delegates_are_the_same_in_process_and_executed() {
    if !requirement::met("errors_of_delegates_are_the_same_in_process_and_executed", &[]) {
        return;
    }
    let wrong = [
        json!({ "type": "host-local" }),
        json!({ "type": "host-local", "subnet": "10.1.2.0/31" }),
        json!({ "type": "host-local", "subnet": "nonsense" }),
        json!({ "type": "host-local", "subnet": "10.1.2.0/24", "dataDir": "/proc/cpuinfo" }),
        json!({ "type": "static", "addresses": [{ "address": "10.1.2.3" }] }),
        json!({ "type": "unheard-of" }),
    ];
    for ipam in wrong {
        let errors = Plugins::OURS.map(|flavour| {
            let host = Host::new(flavour);
            let error = host.network(config(json!({ "ipam": ipam }))).add(&host.container()).error();
            let folder = flavour.dir().display().to_string();
            (error.code, error.text().replace(&folder, "FOLDER"))
        });
        assert_eq!(errors[0], errors[1], "{ipam}");
    }
}

#[test]
fn delegates_run_in_process_when_they_are_the_same_program() {
    let Some(host) = host("delegates_run_in_process_when_they_are_the_same_program") else { return };
    let pod = host.container();
    let call = host.network(config(json!({}))).call("ADD", &pod);
    assert_eq!(programs_executed(&call), 1, "host-local was executed");
}

#[test]
fn copies_of_the_same_build_run_in_process_too() {
    let Some(host) = host("copies_of_the_same_build_run_in_process_too") else { return };
    host.sh(&format!(
        "mkdir /run/copies; for name in bridge host-local; do cp {} /run/copies/$name; done",
        oxcni()
    ));
    let pod = host.container();
    let call = host
        .network(config(json!({})))
        .call("ADD", &pod)
        .env("CNI_PATH", "/run/copies")
        .program("/run/copies/bridge");
    assert_eq!(programs_executed(&call), 1, "a copy was executed");
}

#[test]
fn another_program_of_that_name_is_executed() {
    let Some(host) = host("another_program_of_that_name_is_executed") else { return };
    host.install_script(
        "/run/other/host-local",
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.77.0.7/24\"}]}'; exit 0\n",
    );
    let net = host.network(config(json!({}))).path_before("/run/other");
    let pod = host.container();
    assert_eq!(net.add_addresses(&pod), ["10.77.0.7"]);
    net.del(&pod).succeeds();
    assert!(host.reservations("net").is_empty());
}

#[test]
fn separate_host_local_is_executed_by_the_multicall_bridge() {
    let Some(host) = host("separate_host_local_is_executed_by_the_multicall_bridge") else { return };
    let separate = Plugins::Separate.dir().canonicalize().expect("the plugins are built");
    host.sh(&format!("mkdir /run/sep; cp {}/host-local /run/sep/", separate.display()));
    let net = host.network(config(json!({}))).path_before("/run/sep");
    let pod = host.container();
    assert_eq!(programs_executed(&net.call("ADD", &pod)), 2);
    net.del(&pod).succeeds();
    assert!(host.reservations("net").is_empty());
}

#[test]
fn install_puts_all_names_there() {
    let Some(host) = host("install_puts_all_names_there") else { return };
    host.sh(&format!("mkdir /run/bin; cp {} /run/oxcni-copy; /run/oxcni-copy install /run/bin", oxcni()));
    let files = installed(&host, "/run/bin");
    let inodes: Vec<_> = NAMES
        .iter()
        .map(|name| files.get(*name).unwrap_or_else(|| panic!("{name} is missing")).ino())
        .collect();
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "no hard links: {inodes:?}");
    let pod = host.container();
    let net = host.network(config(json!({})));
    let call = net.call("ADD", &pod).env("CNI_PATH", "/run/bin").program("/run/bin/bridge");
    assert_eq!(call.run().result()["ips"][0]["address"], "10.1.2.2/24");
}

#[test]
fn install_works_across_file_systems() {
    let Some(host) = host("install_works_across_file_systems") else { return };
    host.sh(&format!("mkdir /run/fs; mount -t tmpfs tmpfs /run/fs; mkdir -p /run/fs/opt/cni/bin; {} install /run/fs/opt/cni/bin", oxcni()));
    let call = |name: &str| {
        oxcni_tests::Call::new(&host, name).program(host.path(&format!("/run/fs/opt/cni/bin/{name}")))
    };
    for name in NAMES {
        let version = call(name).env("CNI_COMMAND", "VERSION").run().result();
        assert_eq!(version["supportedVersions"].as_array().map(Vec::len), Some(7), "{name}");
    }
}

#[test]
fn install_replaces_files_in_use_and_leaves_others_alone() {
    let Some(host) = host("install_replaces_files_in_use_and_leaves_others_alone") else { return };
    // A program that runs from the folder, under the name of a plugin; and a stranger.
    host.sh("mkdir /run/bin; cp /bin/sleep /run/bin/bridge; ln -s /bin/true /run/bin/static; printf mine > /run/bin/portmap");
    let mut running =
        host.enter(|| std::process::Command::new("/run/bin/bridge").arg("100").spawn().expect("running"));
    let installing = host.try_sh(&format!("{} install /run/bin", oxcni()));
    let still = running.try_wait().expect("asking for it");
    running.kill().expect("killing it");
    running.wait().expect("reaping it");
    installing.expect("replaces a program in use");
    assert!(still.is_none(), "the running program ended");
    assert_eq!(fs::read_to_string(host.path("/run/bin/portmap")).expect("the stranger"), "mine");
    let files = installed(&host, "/run/bin");
    assert!(NAMES.iter().all(|name| files.contains_key(*name)));
    assert!(
        files.keys().all(|name| !name.starts_with('.') && !name.contains("tmp")),
        "left over: {:?}",
        files.keys()
    );
    assert!(fs::metadata("/bin/true").expect("the link's target").len() > 0);
    // Again, over itself.
    host.sh(&format!("{} install /run/bin", oxcni()));
    assert_eq!(installed(&host, "/run/bin").len(), files.len());
}

#[test]
fn install_that_can_not_finish_leaves_the_folder_as_it_was() {
    let Some(host) = host("install_that_can_not_finish_leaves_the_folder_as_it_was") else { return };
    // A folder under the name of a plugin can't be replaced by a file.
    host.sh("mkdir -p /run/bin/static/sub; printf old > /run/bin/bridge");
    let failed = host.try_sh(&format!("{} install /run/bin", oxcni())).expect_err("installed over a folder");
    assert!(failed.contains("static"), "{failed}");
    assert_eq!(fs::read_to_string(host.path("/run/bin/bridge")).expect("the old file"), "old");
    assert_eq!(installed(&host, "/run/bin").into_keys().collect::<Vec<_>>(), ["bridge", "static"]);
    let full = host.try_sh(&format!(
        "mkdir /run/full; mount -t tmpfs -o size=64k tmpfs /run/full; {} install /run/full",
        oxcni()
    ));
    assert!(full.is_err());
    assert!(installed(&host, "/run/full").is_empty(), "{:?}", installed(&host, "/run/full").keys());
}

#[test]
fn called_by_its_own_name_it_explains_itself() {
    let Some(host) = host("called_by_its_own_name_it_explains_itself") else { return };
    let help = host.sh(&format!("{} --help", oxcni()));
    assert!(help.contains("install") && help.contains("list"), "{help}");
    let list = host.sh(&format!("{} list", oxcni()));
    for name in NAMES {
        assert!(list.lines().any(|line| line == name), "{list}");
    }
    assert!(host.sh(&format!("{} --version", oxcni())).contains("oxcni"));
    let wrong = host.try_sh(&format!("{} frobnicate", oxcni())).expect_err("an unknown subcommand");
    assert!(wrong.contains("frobnicate"), "{wrong}");
    // Under a name that is no plugin's.
    host.sh(&format!("cp {} /run/nobody", oxcni()));
    let outcome =
        oxcni_tests::Call::new(&host, "oxcni").program("/run/nobody").env("CNI_COMMAND", "ADD").run();
    assert!(!outcome.ok());
}

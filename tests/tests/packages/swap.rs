//! A node goes from the Go plugins to the packages and back, with containers running.

use std::path::{Path, PathBuf};

use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Container, Host, Network, Outcome, Plugins, eventually};
use serde_json::{Value, json};

use crate::machine::Machine;

const GO: &str = "/usr/lib/cni";

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br-swap", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.7.0.0/24" },
    })
}

/// Calls the plugin as a container runtime does that searches these folders in order.
fn call(
    net: &Network<'_>,
    folders: &[&Path],
    command: &str,
    pod: &Container<'_>,
    result: Option<&Value>,
) -> Outcome {
    let program: PathBuf =
        folders.iter().map(|folder| folder.join("bridge")).find(|program| program.exists()).unwrap();
    let path = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":");
    let call = net.call(command, pod).program(program).env("CNI_PATH", &path);
    match result {
        None => call.run(),
        Some(result) => {
            let mut config = net.config().clone();
            config["prevResult"] = result.clone();
            call.config(&config).run()
        }
    }
}

fn address(result: &Value) -> &Value {
    &result["ips"][0]["address"]
}

/// Containers of Go are deleted and checked, and one is added, by what the packages installed; then Go
/// goes on. `folders` are searched while the packages are installed.
fn swap_and_back(machine: &Machine, package: &str, folders: &[&Path]) {
    let host = Host::new(Plugins::Go);
    let net = host.network(config());
    let (one, two, three) = (host.container(), host.container(), host.container());
    let go = [Path::new(GO)];
    let first = call(&net, &go, "ADD", &one, None).result();
    let second = call(&net, &go, "ADD", &two, None).result();

    machine.dnf(&["install", package]);
    call(&net, folders, "CHECK", &two, Some(&second)).succeeds();
    call(&net, folders, "DEL", &one, Some(&first)).succeeds();
    let third = call(&net, folders, "ADD", &three, None).result();
    assert_eq!(address(&third), "10.7.0.4/24");
    assert!(three.reaches("10.7.0.3"), "a container of ours reaches one of Go's");
    assert_eq!(third["interfaces"][0]["name"], "br-swap");
    let call_of_ours = call(&net, folders, "STATUS", &three, None);
    assert!(call_of_ours.stdout.contains("STATUS exists since 1.1.0"), "not our program: {call_of_ours}");

    machine.dnf(&["remove", "oxcni*"]);
    let fourth = host.container();
    let result = call(&net, &go, "ADD", &fourth, None).result();
    assert_eq!(address(&result), "10.7.0.5/24");
    call(&net, &go, "CHECK", &three, Some(&third)).succeeds();
    for (pod, result) in [(&two, &second), (&three, &third), (&fourth, &result)] {
        call(&net, &go, "DEL", pod, Some(result)).succeeds();
    }
    let ports = || host.sh("ip -br link show master br-swap");
    assert!(eventually(|| ports().is_empty()), "{}", ports());
    assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
}

fn can_run(test: &str) -> bool {
    requirement::met_on_any_kernel(test, &[Feature::GoPlugins], "packages are files")
}

#[test]
fn a_node_goes_to_the_packages_and_back() {
    if can_run("swap::a_node_goes_to_the_packages_and_back") {
        let machine = Machine::new(&[]);
        machine.dnf(&["install", "systemd"]);
        swap_and_back(&machine, "oxcni-cni-bin", &[&machine.path("/opt/cni/bin")]);
    }
}

#[test]
fn a_folder_of_ours_before_that_of_go_is_enough() {
    if can_run("swap::a_folder_of_ours_before_that_of_go_is_enough") {
        let machine = Machine::new(&[]);
        machine.dnf(&["install", "microshift-multus", "systemd", "cri-o"]);
        let folders = [&*machine.path("/usr/libexec/oxcni"), Path::new(GO)];
        swap_and_back(&machine, "oxcni-microshift", &folders);
    }
}

//! The packages on a machine that systemd runs: their units start, are activated, and outlive an upgrade.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oxcni_tests::apiserver::{ApiServer, Proof, Protocols, Role, Trust};
use oxcni_tests::eventually;
use oxcni_tests::requirement::{self, Feature};
use serde_json::{Value, json};

use crate::machine::{package, run, tried};

const KUBECONFIG: &str = "/var/lib/microshift/resources/kubeadmin/kubeconfig";
const CONFIGURATION: &str = "/etc/cni/net.d/00-multus.conflist";
const CREDENTIALS: &str = "/etc/cni/net.d/multus.d/multus.kubeconfig";

/// Runs a shell script on the machine itself, which is the virtual one.
fn sh(script: &str) -> String {
    run(Command::new("sh").args(["-euc", script])).trim().to_owned()
}

/// Installs packages, or upgrades them: with the same release, rpm takes all the steps of an upgrade. What
/// Debian's packages provide, rpm does not know.
fn install(names: &[&str]) {
    let packages = names.iter().map(|name| package(name));
    run(Command::new("rpm").args(["--force-debian", "--nodeps", "-U", "--replacepkgs"]).args(packages));
}

fn remove(names: &[&str]) {
    run(Command::new("rpm").args(["--force-debian", "-e"]).args(names));
}

/// A property of a unit.
fn property(unit: &str, name: &str) -> String {
    run(Command::new("systemctl").args(["show", "--value", "-p", name, unit])).trim().to_owned()
}

#[track_caller]
fn is_in_state(unit: &str, state: &str) {
    let reached = eventually(|| property(unit, "ActiveState") == state);
    let status = || Command::new("systemctl").args(["status", "--no-pager", "--lines=20", unit]).output();
    assert!(reached, "{unit} is not {state}:\n{}", String::from_utf8_lossy(&status().unwrap().stdout));
}

/// A network with a DHCP server in a namespace, whose cable ends at the machine as `lan0`.
struct Lan {
    server: Child,
    log: PathBuf,
}

impl Lan {
    fn new() -> Lan {
        sh("ip netns add server
            ip link add lan0 type veth peer name port netns server
            ip link set lan0 up
            ip -n server address add 10.88.0.1/24 dev port
            ip -n server link set port up
            mkdir -p /run/lan");
        let network = json!({ "cniVersion": "1.1.0", "name": "lan", "plugins": [
            { "type": "macvlan", "master": "lan0", "ipam": { "type": "dhcp" } },
        ]});
        fs::write("/run/lan/lan.conflist", network.to_string()).unwrap();
        let log = PathBuf::from("/run/lan/log");
        let output = fs::File::create(&log).unwrap();
        let mut server = Command::new("ip");
        server.args(["netns", "exec", "server", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"]);
        server.args(["--log-facility=-", "--user=root", "--port=0", "--no-ping", "--interface=port"]);
        server.args(["--dhcp-range=10.88.0.10,10.88.0.20,1h", "--dhcp-leasefile=/run/lan/leases"]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        Lan { server: server.spawn().unwrap(), log }
    }

    /// Attaches a container and gives its address. Where the daemon takes longer to start than the plugin waits, as
    /// it may on an emulated processor, it is asked again, as by a runtime.
    fn attach(&self, container: &str) -> String {
        sh(&format!("ip netns add {container}"));
        let attached = eventually(|| {
            let mut add = Command::new("cnictl");
            let (ok, text) = tried(add.args(["--conf-dir", "/run/lan", "add", "lan", container]));
            assert!(ok || text.contains("does not answer"), "{text}");
            ok
        });
        assert!(attached, "{container}");
        sh(&format!("ip -n {container} -br -4 address show eth0 | grep -o '10[.]88[.]0[.][0-9]*'"))
    }

    fn check(&self, container: &str) {
        sh(&format!("cnictl --conf-dir /run/lan check lan {container}"));
    }

    /// Detaches a container that knows the server's MAC address: the message that releases a lease is not waited
    /// for longer than half a second, which is little on an emulated processor.
    fn detach(&self, container: &str) {
        sh(&format!("ip netns exec {container} ping -c 1 -W 60 10.88.0.1"));
        sh(&format!("cnictl --conf-dir /run/lan del lan {container}; ip netns del {container}"));
    }

    /// How many messages of a kind the server has received.
    fn received(&self, kind: &str) -> usize {
        self.log().matches(kind).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The containers and addresses of the daemon's leases.
fn leases() -> Vec<(String, String)> {
    let reports: Vec<Value> = serde_json::from_str(&sh("/usr/libexec/oxcni/dhcp leases -o json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    reports.iter().map(|report| (text(&report["containerID"]), text(&report["address"]))).collect()
}

fn the_socket_starts_the_daemon_and_an_upgrade_loses_no_lease() {
    let programs = ["oxcni", "oxcni-cnictl", "oxcni-dhcp"];
    let lan = Lan::new();
    install(&programs);
    is_in_state("oxcni-dhcp.socket", "active");
    assert_eq!(property("oxcni-dhcp.service", "ActiveState"), "inactive");

    let address = lan.attach("blue");
    is_in_state("oxcni-dhcp.service", "active");
    let daemon = property("oxcni-dhcp.service", "MainPID");
    let held = leases();
    let [(container, _)] = &held[..] else { panic!("{held:?}") };

    install(&programs);
    is_in_state("oxcni-dhcp.service", "active");
    assert_ne!(property("oxcni-dhcp.service", "MainPID"), daemon);
    assert_eq!(leases(), held);
    lan.check("blue");
    let requests = lan.received("DHCPREQUEST");
    sh(&format!("/usr/libexec/oxcni/dhcp leases --renew {container}"));
    let renewed = eventually(|| lan.received("DHCPREQUEST") == requests + 1);
    assert!(renewed, "the server has not renewed it:\n{}", lan.log());
    let second = lan.attach("green");
    assert_eq!(lan.received("DHCPRELEASE"), 0);
    lan.detach("blue");
    lan.detach("green");
    for address in [address, second] {
        let released = || lan.received(&format!("DHCPRELEASE(port) {address} ")) > 0;
        assert!(eventually(released), "{address}:\n{}", lan.log());
    }

    remove(&programs);
    is_in_state("oxcni-dhcp.socket", "inactive");
    assert!(!Path::new("/run/oxcni/dhcp.sock").exists());
}

fn the_service_of_multus_obtains_a_token_and_leaves_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = ApiServer::serve(listener, Protocols::Http2);
    api.user("system:serviceaccount:oxcni-multus:multus", Role::Least);
    let metadata = json!({ "name": "multus", "namespace": "oxcni-multus" });
    api.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }));

    fs::create_dir_all("/etc/cni/net.d").unwrap();
    let programs = ["oxcni", "microshift-multus-oxcni"];
    install(&programs);
    is_in_state("oxcni-multus-config.service", "active");
    assert!(!Path::new(CONFIGURATION).exists(), "there is no default network yet");

    let network = json!({ "cniVersion": "0.4.0", "name": "ovn", "type": "ovn" });
    fs::write("/etc/cni/net.d/10-ovn-kubernetes.conf", network.to_string()).unwrap();
    fs::create_dir_all(Path::new(KUBECONFIG).parent().unwrap()).unwrap();
    let admin = api.user("kubeadmin", Role::Admin);
    fs::write(KUBECONFIG, api.kubeconfig(&admin, &Proof::Certificate, Trust::Authority)).unwrap();
    fs::set_permissions(KUBECONFIG, fs::Permissions::from_mode(0o600)).unwrap();
    let written = eventually(|| [CONFIGURATION, CREDENTIALS].iter().all(|file| Path::new(file).exists()));
    let journal = || sh("journalctl --no-pager -u oxcni-multus-config.service");
    assert!(written, "{}", journal());

    remove(&programs);
    is_in_state("oxcni-multus-config.service", "inactive");
    assert!(!Path::new(CONFIGURATION).exists() && !Path::new(CREDENTIALS).exists());
    assert!(Path::new("/etc/cni/net.d/10-ovn-kubernetes.conf").exists());
}

// One test: a machine has each package once.
#[test]
fn the_units_do_their_work_under_systemd() {
    if requirement::met("systemd::the_units_do_their_work_under_systemd", &[Feature::Systemd]) {
        the_socket_starts_the_daemon_and_an_upgrade_loses_no_lease();
        the_service_of_multus_obtains_a_token_and_leaves_nothing();
    }
}

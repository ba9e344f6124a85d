//! Two pods, each on the default network and on those that its annotation names.

use super::manifests::{self, Additional};
use super::pod::{Multus, Plugins, Pod};
use super::remaining::Search;
use super::status::{self, Status};
use super::view::{Place, links};
use crate::error::{Failure, Result};
use crate::private_host::{PrivateHost, ip};
use crate::process::quietly;
use crate::table::Style;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const NAMES: [&str; 2] = ["blue", "green"];
const BRIDGE: &str = "cni0";
/// Of the network `bridge-conf`.
const SECOND_BRIDGE: &str = "test-bridge";
const RESERVATIONS: [&str; 2] = ["/var/lib/cni/networks/pod-network", "/var/lib/cni/test-bridge/bridge-conf"];
const MANIFESTS: &str = "/run/manifests";
const CNI_DIR: &str = "/var/lib/cni/multus";
const HOST: Place<'static> = Place { title: "host", netns: None };

/// Runs the demo, from ADD to DEL.
pub(super) fn run(host: &PrivateHost, plugins: &Plugins) -> Result<()> {
    heading("Two pods, several networks each");
    println!("  multus     {}", plugins.multus.display());
    println!("  plugins    {}", plugins.folder.display());
    println!("  host       a network namespace of this program's own");
    println!("  manifests  {MANIFESTS}, read in place of an API server\n");
    let networks = networks(host)?;
    manifests::write(Path::new(MANIFESTS), &networks, &NAMES)?;
    print_networks(&networks);

    let multus = Multus { plugins, config: config(&plugins.folder) };
    let mut attached = Vec::new();
    for name in NAMES {
        let pod = Pod { name, netns: host.container(name)? };
        let (result, time) = multus.add(&pod)?;
        step("ADD", name, &format!("{} networks in one call", networks.len() + 1), Some(time));
        attached.push((pod, result));
    }
    let statuses =
        attached.iter().map(|(pod, _)| Status::read(Path::new(CNI_DIR), pod)).collect::<Result<Vec<_>>>()?;
    show_statuses(&statuses);
    heading("Links, addresses and routes in the kernel");
    print!("{}", links(&places())?);

    heading("From pod to pod, over each network");
    pings(&statuses)?;
    heading("CHECK, and DEL");
    let failures = take_down(&multus, &attached)?;
    nothing_remains(&networks)?;
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Multus' configuration: the default network, and where the rest is found.
fn config(folder: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus",
        "manifestDir": MANIFESTS, "binDir": folder, "cniDir": CNI_DIR,
        "delegates": [{
            "cniVersion": "1.0.0", "name": "pod-network", "type": "bridge", "bridge": BRIDGE,
            "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.22.0.0/24" }], [{ "subnet": "fd00:22::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        }],
    })
}

/// The additional networks that this kernel supports. Makes their masters: one end of a veth pair, whose
/// other end is in a namespace that is not shown.
fn networks(host: &PrivateHost) -> Result<Vec<Additional>> {
    host.container("outside")?;
    let mut networks = Vec::new();
    for network in Additional::ALL {
        if let Some(master) = network.master() {
            ip(&format!("link add name {master} type veth peer name port-{master} netns outside"))?;
            ip(&format!("link set {master} up"))?;
            ip(&format!("-n outside link set port-{master} up"))?;
            if network == Additional::Ipvlan && !has_ipvlan(master) {
                println!("  {} this kernel has no ipvlan: the demo leaves it out\n", Style::Bad.paint("!"));
                ip(&format!("link del {master}"))?;
                continue;
            }
        }
        networks.push(network);
    }
    Ok(networks)
}

fn has_ipvlan(master: &str) -> bool {
    let made = ip(&format!("link add link {master} name probe type ipvlan"));
    made.and_then(|_| ip("link del probe")).is_ok()
}

fn print_networks(networks: &[Additional]) {
    println!("  {:<12} default network: the bridge {BRIDGE}, IPv4 and IPv6, a gateway", "pod-network");
    for network in networks {
        println!("  {:<12} {}", network.name(), network.about());
    }
    println!("\n  The pods request them in the annotation k8s.v1.cni.cncf.io/networks:\n");
    for (number, name) in NAMES.iter().enumerate() {
        println!("  {name:<12} {}", Style::Dim.paint(manifests::annotation(networks, number)));
    }
    println!();
}

fn places() -> [Place<'static>; 3] {
    let [blue, green] = NAMES;
    [HOST, Place { title: blue, netns: Some(blue) }, Place { title: green, netns: Some(green) }]
}

fn show_statuses(statuses: &[Status]) {
    let Some(first) = statuses.first() else { return };
    heading(&format!("k8s.v1.cni.cncf.io/network-status of {}, as written", first.pod));
    print!("{}", first.painted());
    heading("The network status of both pods");
    print!("{}", status::table(statuses));
}

/// Pings each address of the other pod from the interface on the same network, and the gateway.
fn pings(statuses: &[Status]) -> Result<()> {
    let [blue, green] = statuses else { return Ok(()) };
    for (from, to) in [(blue, green), (green, blue)] {
        for entry in &to.entries {
            let network = entry.name.rsplit('/').next().unwrap_or_default();
            for address in &entry.ips {
                ping(from.pod, &entry.interface, address, &format!("{} {address} over {network}", to.pod))?;
            }
        }
    }
    ping(blue.pod, "eth0", "10.22.0.1", "host 10.22.0.1")
}

fn ping(from: &str, ifname: &str, address: &str, shown: &str) -> Result<()> {
    let options = ["-n", "-c", "2", "-i", "0.05", "-W", "3", "-I", ifname, address];
    let output = quietly(Command::new("ip").args(["netns", "exec", from, "ping"]).args(options))?;
    let time = output.split("time=").nth(2).and_then(|rest| rest.lines().next()).unwrap_or("answered");
    line("ping", from, &format!("{ifname} → {shown}"), time);
    Ok(())
}

/// CHECK and DEL of all pods; returns the CHECKs that failed. DEL follows in any case: CHECK of the Go
/// bridge fails after the kernel has given the bridge another MAC address with its next port.
fn take_down(multus: &Multus<'_>, attached: &[(Pod, Value)]) -> Result<Vec<Failure>> {
    let mut failures = Vec::new();
    for (pod, result) in attached {
        match multus.check(pod, result) {
            Ok(time) => step("CHECK", pod.name, "all is as ADD left it", Some(time)),
            Err(failure) => {
                println!("  {} CHECK {:<6} {failure}", Style::Bad.paint("✗"), pod.name);
                failures.push(failure);
            }
        }
    }
    for (pod, result) in attached.iter().rev() {
        let time = multus.del(pod, result)?;
        step("DEL", pod.name, "", Some(time));
    }
    println!("\n{}", links(&places())?);
    Ok(failures)
}

fn nothing_remains(networks: &[Additional]) -> Result<()> {
    let mut staying = vec![BRIDGE, SECOND_BRIDGE];
    staying.extend(networks.iter().filter_map(|network| network.master()));
    let search = Search {
        places: &places(),
        staying: &staying,
        reservations: &RESERVATIONS,
        cache: Path::new(CNI_DIR),
        patterns: &["10.22.0.", "fd00:22:", NAMES[0], NAMES[1]],
    };
    search.report()
}

pub(super) fn heading(text: &str) {
    println!("\n{}\n", Style::Bold.paint(text));
}

/// Prints a call with the time it took.
pub(super) fn step(what: &str, whom: &str, outcome: &str, time: Option<Duration>) {
    let time = time.map(|time| format!("{:.1} ms", time.as_secs_f64() * 1000.0)).unwrap_or_default();
    line(what, whom, outcome, &time);
}

pub(super) fn line(what: &str, whom: &str, outcome: &str, time: &str) {
    let mark = Style::Good.paint("✓");
    let text = format!("  {mark} {what:<5} {whom:<6} {outcome:<48} {}", Style::Dim.paint(time));
    println!("{}", text.trim_end());
}

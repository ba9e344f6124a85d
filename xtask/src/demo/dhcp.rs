//! Two pods with leases of a DHCP server, and a daemon that is killed.

use super::pod::{Plugins, Pod, call};
use super::steps::{heading, line, step};
use crate::error::{Context, Failure, Result};
use crate::private_host::{PrivateHost, ip};
use crate::process::quietly;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NAMES: [&str; 2] = ["red", "amber"];
const SERVER: &str = "dhcp-server";
const SERVER_LEASES: &str = "/run/dnsmasq.leases";
const LOG: &str = "/run/dhcp-daemon.log";

/// What can't be seen within this time has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the chapter.
pub(super) fn run(host: &PrivateHost, plugins: &Plugins) -> Result<()> {
    heading("DHCP: a daemon that does not forget");
    let dhcp = plugins.folder.join("dhcp");
    if quietly(Command::new(&dhcp).args(["leases", "--help"])).is_err() {
        println!("  the plugins of {} have no daemon that is known here", plugins.folder.display());
        return Ok(());
    }
    let _server = server(host)?;
    let daemon = daemon(&dhcp)?;
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "lan0", "ipam": { "type": "dhcp" },
    });
    println!("  {config}\n");
    let macvlan = |verb: &str, pod: &Pod, config: Value| {
        call(&plugins.folder.join("macvlan"), &plugins.folder, verb, pod, "", config)
    };
    let mut attached = Vec::new();
    for name in NAMES {
        let pod = Pod { name, netns: host.container(name)? };
        let (result, time) = macvlan("ADD", &pod, config.clone())?;
        let address = result["ips"][0]["address"].as_str().unwrap_or_default().to_owned();
        step("ADD", name, &format!("{address}, of the server {SERVER}"), Some(time));
        attached.push((pod, result, address));
    }
    leases(&dhcp)?;

    println!("\n  The daemon is killed (SIGKILL), and started again:\n");
    drop(daemon);
    let _daemon = self::daemon(&dhcp)?;
    leases(&dhcp)?;
    println!();
    for (pod, result, address) in &attached {
        let mut checked = config.clone();
        checked["prevResult"] = result.clone();
        let (_, time) = macvlan("CHECK", pod, checked)?;
        step("CHECK", pod.name, &format!("still has {address}"), Some(time));
    }
    for (pod, ..) in &attached {
        let (_, time) = macvlan("DEL", pod, config.clone())?;
        step("DEL", pod.name, "", Some(time));
    }
    until("the server to take the leases back", || {
        fs::read_to_string(SERVER_LEASES).is_ok_and(|leases| leases.trim().is_empty())
    })?;
    line("lease", SERVER, "both leases were released", "");
    Ok(())
}

/// A DHCP server on the network of the interface `lan0`.
fn server(host: &PrivateHost) -> Result<Process> {
    host.container(SERVER)?;
    ip(&format!("link add name lan0 type veth peer name eth0 netns {SERVER}"))?;
    ip("link set lan0 up")?;
    ip(&format!("-n {SERVER} addr add 192.168.7.1/24 dev eth0"))?;
    ip(&format!("-n {SERVER} link set eth0 up"))?;
    let child = Command::new("ip")
        .args([
            "netns",
            "exec",
            SERVER,
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
        ])
        .args(["--no-ping", "--interface=eth0", "--user=root", "--pid-file", "--dhcp-authoritative"])
        .args(["--dhcp-range=192.168.7.50,192.168.7.99,1h", &format!("--dhcp-leasefile={SERVER_LEASES}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(|| "can't start dnsmasq".into())?;
    let server = Process(child);
    until("dnsmasq", || Path::new(SERVER_LEASES).exists())?;
    Ok(server)
}

/// The daemon, once it answers.
fn daemon(dhcp: &Path) -> Result<Process> {
    let log =
        fs::File::options().create(true).append(true).open(LOG).context(|| format!("can't write {LOG}"))?;
    let child =
        Command::new(dhcp).arg("daemon").stderr(log).spawn().context(|| "can't start the daemon".into())?;
    let daemon = Process(child);
    until("the daemon", || quietly(Command::new(dhcp).arg("leases")).is_ok())?;
    Ok(daemon)
}

/// Prints what `dhcp leases` prints.
fn leases(dhcp: &Path) -> Result<()> {
    println!();
    quietly(Command::new(dhcp).arg("leases"))?.lines().for_each(|line| println!("  {line}"));
    Ok(())
}

/// Waits for something that has no event of its own.
fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return Err(Failure::new(format!("waited {PATIENCE:?} in vain for {what}; {LOG} may tell why")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

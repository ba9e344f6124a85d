//! Two containers on a bridge.

use super::network::{Container, Network};
use super::view::{Place, links};
use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::stage::{Stage, ip};
use crate::table::Style;
use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BRIDGE: &str = "cni0";
const NAMES: [&str; 2] = ["blue", "green"];
const RESERVATIONS: &str = "/var/lib/cni/networks/demo";
const HOST: Place<'static> = Place { title: "host", netns: None };

/// Tells the story from ADD to DEL.
pub(super) fn tell(stage: &Stage, plugins: &Path) -> Result<()> {
    let network = Network {
        plugins,
        config: json!({
            "cniVersion": "1.0.0", "name": "demo", "type": "bridge", "bridge": BRIDGE,
            "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.22.0.0/24" }], [{ "subnet": "fd00:22::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        }),
    };
    heading("Two containers on a bridge");
    println!("  plugins  {}\n  host     a network namespace of this program's own\n", plugins.display());

    let mut attached = Vec::new();
    for name in NAMES {
        let container = Container { name, netns: stage.container(name)? };
        let (result, time) = network.add(&container)?;
        step("ADD", name, &addresses_of(&result).join(", "), Some(time));
        attached.push((container, result));
    }
    println!("\n{}", links(&places())?);

    pings(&attached)?;
    for (container, result) in &attached {
        let time = network.check(container, result)?;
        step("CHECK", container.name, "all is as ADD left it", Some(time));
    }
    for (container, result) in attached.iter().rev() {
        let time = network.del(container, result)?;
        step("DEL", container.name, "", Some(time));
    }
    println!("\n{}", links(&places())?);
    nothing_left()
}

fn places() -> [Place<'static>; 3] {
    let [blue, green] = NAMES;
    [HOST, Place { title: blue, netns: Some(blue) }, Place { title: green, netns: Some(green) }]
}

/// From each container to the other, over IPv4 and IPv6, and to the gateway.
fn pings(attached: &[(Container, Value)]) -> Result<()> {
    let [(blue, at_blue), (green, at_green)] = attached else { return Ok(()) };
    for (from, to, result) in [(blue, green, at_green), (green, blue, at_blue)] {
        for address in addresses_of(result) {
            let address = address.split('/').next().unwrap_or_default();
            ping(from.name, &format!("→ {} {address}", to.name), address)?;
        }
    }
    let gateway = at_blue["ips"][0]["gateway"].as_str().unwrap_or_default();
    ping(blue.name, &format!("→ host {gateway}"), gateway)?;
    println!();
    Ok(())
}

fn ping(from: &str, shown: &str, address: &str) -> Result<()> {
    let said = quietly(
        Command::new("ip")
            .args(["netns", "exec", from, "ping", "-n", "-c", "2", "-i", "0.05", "-W", "3", address]),
    )?;
    let time = said.split("time=").nth(2).and_then(|rest| rest.lines().next()).unwrap_or("answered");
    step("ping", from, &format!("{shown}  {}", Style::Dim.paint(time)), None);
    Ok(())
}

/// Looks for what the attachments could have left behind.
fn nothing_left() -> Result<()> {
    let mut left = false;
    let mut report = |what: &str, found: Vec<String>, nothing: &str| {
        left |= !found.is_empty();
        let (mark, text) = match found.is_empty() {
            true => (Style::Good.paint("✓"), nothing.to_owned()),
            false => (Style::Bad.paint("✗"), found.join("; ")),
        };
        println!("  {mark} {what:<12} {text}");
    };
    report("links", leftover_links()?, "none (the bridge stays, empty, for the next container)");
    report("addresses", leftover_reservations()?, "none reserved");
    report("rules", leftover_rules()?, "none");
    ip(&format!("link del {BRIDGE}"))?;
    if left {
        return Err(Failure::new("DEL left something behind"));
    }
    println!("\n{}", Style::Good.paint("Nothing is left."));
    Ok(())
}

/// All links but the bridge itself.
fn leftover_links() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for place in places() {
        for link in place.links()? {
            let ifname = link["ifname"].as_str().unwrap_or_default();
            if (place.netns, ifname) != (None, BRIDGE) {
                left.push(format!("{ifname} in {}", place.title));
            }
        }
    }
    Ok(left)
}

/// Files named by an address: the lock and the round-robin marks stay.
fn leftover_reservations() -> Result<Vec<String>> {
    let entries = fs::read_dir(RESERVATIONS).context(|| format!("can't read {RESERVATIONS}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.parse::<IpAddr>().is_ok()).collect())
}

/// Rules that name an address of the network or one of the containers.
fn leftover_rules() -> Result<Vec<String>> {
    let nft = quietly(Command::new("nft").args(["list", "ruleset"]))?;
    // The Go plugins write iptables' rules, where that program is there.
    let iptables = quietly(&mut Command::new("iptables-save")).unwrap_or_default();
    let theirs =
        |line: &&str| ["10.22.0.", "fd00:22:", NAMES[0], NAMES[1]].iter().any(|word| line.contains(word));
    Ok(nft.lines().chain(iptables.lines()).filter(theirs).map(|line| line.trim().to_owned()).collect())
}

/// The addresses of a result, with their prefixes.
fn addresses_of(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    ips.iter().filter_map(|ip| ip["address"].as_str().map(str::to_owned)).collect()
}

fn heading(text: &str) {
    println!("\n{}\n", Style::Bold.paint(text));
}

/// A line of the story.
fn step(what: &str, whom: &str, outcome: &str, time: Option<Duration>) {
    let time = time.map(|time| format!("{:.1} ms", time.as_secs_f64() * 1000.0)).unwrap_or_default();
    let mark = Style::Good.paint("✓");
    let line = format!("  {mark} {what:<5} {whom:<10} {outcome:<42} {}", Style::Dim.paint(time));
    println!("{}", line.trim_end());
}

//! The kernel's own part of an ADD: the netlink messages that the attachment takes, sent by a
//! process that does nothing else. No plugin can be faster than this.
//!
//! - `probe-floor bridge NETNS HOST_IFNAME BRIDGE ADDRESS/PREFIX GATEWAY`
//! - `probe-floor macvlan|ipvlan NETNS MASTER ADDRESS/PREFIX GATEWAY`
//!
//! The container's interface is `eth0`. What an ADD writes besides (a reservation, its result) is
//! left out, so the floor is a little low.

mod netlink;

use netlink::{Message, Socket, attribute, kind};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

const CONTAINER_IFNAME: &str = "eth0";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["bridge", netns, host, bridge, address, gateway] => {
            attach(netns, address, gateway, |sandbox, sockets| veth(sandbox, sockets, host, bridge))
        }
        [kind @ ("macvlan" | "ipvlan"), netns, master, address, gateway] => {
            attach(netns, address, gateway, |sandbox, sockets| slave(sandbox, sockets, kind, master))
        }
        _ => Err(io::Error::other("takes bridge, macvlan or ipvlan and what they need")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A socket in each of the two namespaces.
struct Sockets {
    host: Socket,
    container: Socket,
}

/// Makes the link, then what every attachment has: an address, a route, and the link up.
fn attach(
    netns: &str,
    address: &str,
    gateway: &str,
    make_link: impl FnOnce(&File, &Sockets) -> io::Result<()>,
) -> io::Result<()> {
    let (address, prefix) = address.split_once('/').ok_or_else(|| io::Error::other("no prefix"))?;
    let address: Ipv4Addr = address.parse().map_err(io::Error::other)?;
    let prefix: u8 = prefix.parse().map_err(io::Error::other)?;
    let gateway: Ipv4Addr = gateway.parse().map_err(io::Error::other)?;

    let sandbox = File::open(netns)?;
    let host = Socket::open()?;
    setns(&sandbox, CloneFlags::CLONE_NEWNET)?;
    let sockets = Sockets { host, container: Socket::open()? };
    make_link(&sandbox, &sockets)?;

    let index = sockets.container.link_index(CONTAINER_IFNAME)?;
    sockets.container.send(
        Message::create(kind::NEW_ADDRESS, &netlink::address_header(prefix, index))
            .attribute(attribute::ADDRESS, &address.octets())
            .attribute(attribute::LOCAL, &address.octets()),
    )?;
    sockets.container.send(Message::up(index))?;
    sockets.container.send(
        Message::create(kind::NEW_ROUTE, &netlink::default_route_header())
            .attribute(attribute::GATEWAY, &gateway.octets())
            .attribute(attribute::OUTPUT_LINK, &index.to_ne_bytes()),
    )?;
    Ok(())
}

/// A veth pair, one end a port of the bridge and up, the other in the container.
fn veth(sandbox: &File, sockets: &Sockets, host_ifname: &str, bridge: &str) -> io::Result<()> {
    let bridge = sockets.host.link_index(bridge)?;
    let peer = Message::part(&netlink::link_header(0, false))
        .name(CONTAINER_IFNAME)
        .attribute(attribute::NETNS_FD, &sandbox.as_raw_fd().to_ne_bytes());
    let details = Message::part(&[]).attribute(attribute::VETH_PEER, peer.bytes());
    sockets.host.send(
        Message::create(kind::NEW_LINK, &netlink::link_header(0, true))
            .name(host_ifname)
            .attribute(attribute::MASTER, &bridge.to_ne_bytes())
            .link_kind("veth", &details),
    )?;
    // The bridge is the gateway: does it have the address?
    sockets.host.addresses()
}

/// A link on top of a master, in the container from the start.
fn slave(sandbox: &File, sockets: &Sockets, kind: &str, master: &str) -> io::Result<()> {
    let master = sockets.host.link_index(master)?;
    let mode = match kind {
        "macvlan" => Message::part(&[]).attribute(1, &4_u32.to_ne_bytes()), // bridge
        _ => Message::part(&[]).attribute(1, &0_u16.to_ne_bytes()),         // l2
    };
    sockets
        .host
        .send(
            Message::create(kind::NEW_LINK, &netlink::link_header(0, false))
                .name(CONTAINER_IFNAME)
                .attribute(attribute::LINK, &master.to_ne_bytes())
                .attribute(attribute::NETNS_FD, &sandbox.as_raw_fd().to_ne_bytes())
                .link_kind(kind, &mode),
        )
        .map(drop)
}

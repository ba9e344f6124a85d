use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::Container;
use crate::snapshot::json_of;

/// A datagram that does not arrive within this time is lost.
const LOST: Duration = Duration::from_secs(5);

/// A socket in a container that tells who sent to it.
#[derive(Debug)]
pub struct UdpEcho {
    socket: UdpSocket,
}

impl UdpEcho {
    /// Listens on `address` in the container.
    pub fn bind(container: &Container<'_>, address: IpAddr) -> Self {
        let socket = container.enter(|| {
            UdpSocket::bind(SocketAddr::new(address, 0))
                .unwrap_or_else(|err| panic!("binding {address}: {err}"))
        });
        socket.set_read_timeout(Some(LOST)).expect("a time limit");
        Self { socket }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    fn sender(&self) -> Option<IpAddr> {
        self.socket.recv_from(&mut [0; 16]).ok().map(|(_, from)| from.ip())
    }
}

/// The source address under which `to` sees a datagram of `from`; nothing where none arrives.
pub fn source_seen_by(to: &Container<'_>, address: IpAddr, from: &Container<'_>) -> Option<IpAddr> {
    let echo = UdpEcho::bind(to, address);
    let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("an address");
    from.enter(|| {
        let socket = UdpSocket::bind(any).expect("binding any address");
        socket.send_to(b"who am I?", echo.address()).map(drop).ok()
    })?;
    echo.sender()
}

/// How many packets a container's link has received.
pub fn rx_packets(container: &Container<'_>, link: &str) -> u64 {
    let stats = json_of(&container.sh(&format!("ip -s -j link show dev {link}")));
    stats[0]["stats64"]["rx"]["packets"].as_u64().unwrap_or_default()
}

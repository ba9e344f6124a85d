use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::Container;

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

/// Counts the ARP frames that come in on a container's link.
#[derive(Debug)]
pub struct ArpCounter<'c> {
    container: &'c Container<'c>,
}

impl<'c> ArpCounter<'c> {
    /// Counts from here on.
    pub fn on(container: &'c Container<'c>, link: &str) -> Self {
        container.sh(&format!(
            "nft add table netdev count; \
             nft 'add chain netdev count questions {{ type filter hook ingress device {link} priority 0; }}'; \
             nft add rule netdev count questions ether type arp counter"
        ));
        Self { container }
    }

    /// How many came.
    pub fn frames(&self) -> u64 {
        let chain = self.container.sh("nft list chain netdev count questions");
        let after = chain.split("packets ").nth(1).expect("a counter");
        after.split(' ').next().and_then(|count| count.parse().ok()).expect("a count")
    }
}

/// Waits until `holds`, asking again and again where there is no event to wait for; false where
/// it does not within seconds.
pub fn eventually(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + LOST;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

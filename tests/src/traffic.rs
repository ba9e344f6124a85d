use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::Container;

/// A datagram that has not arrived by now will not, on an emulated processor neither.
const LOST: Duration = Duration::from_secs(8);

/// What has not come to pass by now will not, on a machine that stands still for seconds neither.
/// Waited for to the end only where something is wrong.
const NEVER: Duration = Duration::from_secs(60);

/// The source address under which `to` sees a datagram of `from`; nothing where none arrives.
///
/// Asks again until an answer comes: the first datagrams are lost while a gateway still looks
/// whether another one has its IPv6 address.
pub fn source_seen_by(to: &Container<'_>, address: IpAddr, from: &Container<'_>) -> Option<IpAddr> {
    let receiver = to.enter(|| {
        UdpSocket::bind(SocketAddr::new(address, 0)).unwrap_or_else(|err| panic!("binding {address}: {err}"))
    });
    receiver.set_read_timeout(Some(LOST / 20)).expect("a time limit");
    let target = receiver.local_addr().expect("a bound socket has an address");
    let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("an address");
    let sender = from.enter(|| UdpSocket::bind(any).expect("binding any address"));
    (0..20).find_map(|_| {
        // Without a route it can't even be sent, which may be what the caller wants to know.
        drop(sender.send_to(b"who am I?", target));
        receiver.recv_from(&mut [0; 16]).ok().map(|(_, from)| from.ip())
    })
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
/// it does not within a minute.
pub fn eventually(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + NEVER;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

//! The readers of answers, for the fuzz targets alone.

use super::address::Address;
use super::bridge::read_vlans;
use super::link::Link;
use super::message::{acknowledgement, answers};
use super::route::InstalledRoute;

/// Reads a datagram as each kind of answer.
pub fn datagram(bytes: &[u8]) {
    let _ = super::router_options(bytes).count();
    for answer in answers(bytes) {
        let Ok(answer) = answer else { return };
        let _ = acknowledgement(&answer);
        if let Some(link) = Link::read(&answer) {
            let _ = (link.is("veth"), link.is_called("eth0"), link.bridge_port(), link.filters_vlans());
            let _ = link.default_vlan();
            let _ = read_vlans(&answer, link.index);
        }
        let _ = Address::read(&answer);
        let _ = InstalledRoute::read(&answer);
    }
}

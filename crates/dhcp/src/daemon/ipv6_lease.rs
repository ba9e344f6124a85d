//! The lease of DHCPv6 of an attachment: what the state machine decides, and the address on the interface.

use std::fmt::Display;
use std::net::IpAddr;
use std::rc::Rc;

use cni_core::spec::{Cidr, Result};
use dhcp_client::v6::{Action, Event, Lease, MessageType};
use dhcp_client::{Drop, SECOND, Time};

use super::attachment::Attachment;
use super::ipv6::Ipv6;
use super::ipv6_port::Ipv6Port;
use super::log::Level;
use crate::protocol::Hex;

/// How long a RELEASE may take: DEL waits for it. The first one is repeated once in this time.
const RELEASE: u64 = 1500;

impl Ipv6 {
    /// Takes a step of the state machine, and does what it says.
    pub(crate) fn step(&self, of: &Attachment, event: Event<'_>) {
        if of.ended().is_some() {
            return;
        }
        let actions = self.client.borrow_mut().step(event, of.daemon.clock.now());
        for action in actions {
            match action {
                Action::Send { kind, message } => self.send(of, kind, &message),
                Action::Use(lease) => self.use_lease(of, &lease),
                Action::Drop(lease, why) => self.drop_lease(of, &lease, why),
                Action::Refused(kind, why) => {
                    of.log(Level::Warning, "message-refused", &[("type", &kind.name()), ("why", &why)]);
                }
            }
        }
        if !self.client.borrow().listens() {
            self.port.replace(None);
        }
        self.changed.notify_one();
        of.wake();
    }

    fn send(&self, of: &Attachment, kind: MessageType, message: &[u8]) {
        if let Err(err) = self.port(of).and_then(|port| port.send(message)) {
            of.log(Level::Warning, "send-failed", &[("type", &kind.name()), ("why", &err)]);
        }
    }

    /// The socket, opened where it is not.
    fn port(&self, of: &Attachment) -> std::io::Result<Rc<Ipv6Port>> {
        if let Some(port) = &*self.port.borrow() {
            return Ok(port.clone());
        }
        let found = of.place.again().map_err(|gone| std::io::Error::other(gone.to_string()))?;
        let port = Rc::new(Ipv6Port::open(&of.daemon.clock, &found.netns, &of.place.ifname, of.place.index)?);
        self.port.replace(Some(port.clone()));
        Ok(port)
    }

    fn use_lease(&self, of: &Attachment, lease: &Lease) {
        let seconds =
            lease.expiry().map_or("infinite".to_owned(), |end| (end.since(lease.start) / SECOND).to_string());
        let server = String::from(Hex(lease.server.clone()));
        let fields: [(&str, &dyn Display); 3] =
            [("address", &lease.address), ("server", &server), ("seconds", &seconds)];
        of.log(Level::Info, "lease", &fields);
        self.kept.replace(Some(lease.clone()));
        of.save();
        if let Err(err) = self.configure(of, lease) {
            of.log(Level::Error, "not-configured", &[("address", &lease.address), ("why", &err)]);
        }
    }

    /// Gives the interface the address for the time of the lease, in place of an earlier one.
    fn configure(&self, of: &Attachment, lease: &Lease) -> Result<()> {
        let found = of.found()?;
        let before = found.netlink.addresses(&found.link)?;
        let has = before.iter().any(|it| it.cidr.ip() == IpAddr::V6(lease.address));
        let now = of.daemon.clock.now();
        let remaining = |at: Option<Time>| at.map(|at| super::configure::remaining(at, now));
        let (preferred, valid) = (remaining(lease.preferred), remaining(lease.expiry()));
        found.netlink.lease_ipv6_address(&found.link, lease.address, preferred, valid)?;
        self.settling.set(!has);
        let earlier = self.on_link.replace(Some(lease.address));
        if let Some(earlier) = earlier.filter(|earlier| *earlier != lease.address) {
            of.log(Level::Warning, "address-changed", &[("before", &earlier), ("after", &lease.address)]);
            found.netlink.delete_address(&found.link, Cidr::host(earlier.into()))?;
        }
        Ok(())
    }

    fn drop_lease(&self, of: &Attachment, lease: &Lease, why: Drop) {
        of.log_drop(why, &lease.address, &String::from(Hex(lease.server.clone())));
        // After a release the plugin deletes the interface, and until then traffic may end in peace.
        if why == Drop::Released {
            return;
        }
        // One that has ended may still be free: it is requested again, also by the next daemon.
        if why != Drop::Expired {
            self.kept.replace(None);
            of.save();
        }
        self.on_link.set(None);
        let removed = match of.place.again() {
            Ok(found) => found.netlink.delete_address(&found.link, Cidr::host(lease.address.into())),
            Err(_) => Ok(()),
        };
        if let Err(err) = removed {
            of.log(Level::Error, "address-not-removed", &[("address", &lease.address), ("why", &err)]);
        }
    }

    /// Releases the lease, and waits a moment for the server's answer.
    pub(crate) async fn release(&self, of: &Attachment) {
        self.leaving.set(true);
        self.step(of, Event::Release);
        let limit = of.daemon.clock.now().after(RELEASE);
        while of.ended().is_none() && self.port.borrow().is_some() && of.daemon.clock.now() < limit {
            tokio::select! {
                () = of.news() => {}
                () = of.daemon.clock.until(Some(limit)) => {}
            }
        }
    }
}

//! The IPv6 side of an attachment. Routes, and addresses of router advertisements, are the kernel's
//! own; the daemon has it accept them, sees what comes, and holds a lease of DHCPv6.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use cni_core::netlink::{
    Address, Link, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_IFINFO, RTNLGRP_LINK, RouterAdvertisement,
};
use cni_core::spec::{Cidr, Dns, IfName, Result};
use cni_core::sysctl::Sysctl;
use dhcp_client::v6::{Action, Client, Config, Counters, Event, Lease, MessageType, Phase, code};
use dhcp_client::{Drop, SECOND, Time};
use sha2::{Digest, Sha512};
use tokio::sync::Notify;

use super::attachment::{Attachment, carries, seed};
use super::events::Events;
use super::ipv6_port::Ipv6Port;
use super::log::Level;
use super::place::Found;
use crate::protocol::{Hex, Id, Ipv6Report};

/// The association of each attachment: its DUID is its own.
const IAID: u32 = 1;

/// How long the kernel's events are listened to; after that the interface is looked at again and again.
const WATCHED: u64 = 60 * SECOND;
const LOOK: u64 = 10 * SECOND;

/// How long a RELEASE may take: DEL waits for it. The first one is repeated once in this time.
const RELEASE: u64 = 1500;

/// The scopes of addresses (include/uapi/linux/rtnetlink.h).
const GLOBAL: u8 = 0;
const LINK: u8 = 253;

/// What an attachment has for IPv6.
pub(crate) struct Ipv6 {
    client: RefCell<Client>,
    port: RefCell<Option<Rc<Ipv6Port>>>,
    /// The latest router advertisement.
    router: Cell<Option<RouterAdvertisement>>,
    carried: Cell<bool>,
    /// An ADD waits for addresses.
    awaited: Cell<bool>,
    /// Duplicate address detection of the leased address is not finished.
    settling: Cell<bool>,
    /// Wakes [`Attachment::run_ipv6`] after a change from outside.
    changed: Notify,
}

impl Ipv6 {
    /// Of an attachment without a lease, which would like to have this address.
    pub(crate) fn new(id: &Id, address: Option<Ipv6Addr>) -> Ipv6 {
        let config = config(id);
        Ipv6::with(match address {
            None => Client::new(config, seed()),
            Some(address) => Client::with_address(config, seed(), address),
        })
    }

    /// Of an attachment that goes on with a lease; its servers are asked first where the interface has
    /// lost the address.
    pub(crate) fn with_lease(id: &Id, lease: Lease, confirm: bool) -> Ipv6 {
        Ipv6::with(Client::with_lease(config(id), seed(), lease, confirm))
    }

    fn with(client: Client) -> Ipv6 {
        Ipv6 {
            client: RefCell::new(client),
            port: RefCell::default(),
            router: Cell::default(),
            carried: Cell::default(),
            awaited: Cell::default(),
            settling: Cell::default(),
            changed: Notify::new(),
        }
    }

    /// Whether there is a lease.
    pub(crate) fn is_bound(&self) -> bool {
        self.client.borrow().lease().is_some()
    }

    /// What was sent and received.
    pub(crate) fn counters(&self) -> Counters {
        self.client.borrow().counters()
    }

    /// Whether a router advertisement came.
    pub(crate) fn has_router(&self) -> bool {
        self.router.get().is_some()
    }

    /// Closes its socket.
    pub(crate) fn close(&self) {
        self.port.replace(None);
        self.changed.notify_one();
    }

    /// Whether the interface has to be looked at for more than the lease's timers.
    fn is_watched(&self) -> bool {
        self.awaited.get() || self.settling.get() || self.client.borrow().phase() == Phase::Init
    }
}

/// Has the kernel accept router advertisements, also where the container forwards packets, and
/// lose no time with it: delays keep hosts apart that start together after a power failure.
///
/// # Errors
/// When a setting can't be written.
pub(crate) fn prepare(found: &Found, ifname: &IfName) -> Result<()> {
    let loopback: IfName = "lo".parse()?;
    found.netns.enter(|| {
        Sysctl::ipv6("disable_ipv6", &loopback).ensure("0")?;
        for (setting, value) in
            [("router_solicitation_delay", "0"), ("optimistic_dad", "1"), ("use_optimistic", "1")]
        {
            Sysctl::ipv6(setting, ifname).prefer(value);
        }
        let disabled = Sysctl::ipv6("disable_ipv6", ifname);
        let accept = Sysctl::ipv6("accept_ra", ifname);
        let accepted = accept.get().is_ok_and(|value| value == "2");
        accept.ensure("2")?;
        Sysctl::ipv6("autoconf", ifname).ensure("1")?;
        // Routers are solicited as IPv6 starts on a link.
        if found.link.up && !accepted {
            disabled.set("1")?;
        }
        disabled.ensure("0")
    })?
}

impl Attachment {
    /// Takes in all that happens to the IPv6 side, until the attachment is over.
    pub(crate) async fn run_ipv6(self: Rc<Attachment>) {
        let Some(ipv6) = &self.ipv6 else { return };
        let clock = &self.daemon.clock;
        let watched = clock.now().after(WATCHED);
        let mut events = None;
        self.look();
        while self.ended().is_none() {
            let wanted = ipv6.is_watched() && clock.now() < watched;
            if wanted && events.is_none() {
                events = self.watch_ipv6();
                // What happened before the subscription was not seen.
                self.look();
            } else if !wanted {
                events = None;
            }
            let deadline = ipv6.client.borrow().deadline();
            let look_again =
                ipv6.is_watched().then(|| clock.now().after(if events.is_some() { WATCHED } else { LOOK }));
            let port = ipv6.port.borrow().clone();
            tokio::select! {
                biased;
                () = ipv6.changed.notified() => {}
                () = next(events.as_ref()) => self.look(),
                message = receive(port) => match message {
                    Ok(message) => self.step_ipv6(Event::Received(&message)),
                    Err(err) => self.log(Level::Warning, "receive-failed", &[("why", &err)]),
                },
                () = clock.until(deadline) => match self.place.again() {
                    Ok(_) => self.step_ipv6(Event::Timer),
                    Err(gone) => self.end(gone),
                },
                () = clock.until(look_again) => self.look(),
            }
        }
    }

    fn watch_ipv6(&self) -> Option<Events> {
        let found = self.place.again().map_err(|gone| self.end(gone)).ok()?;
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_IFINFO];
        let events = Events::within(&found.netns, &groups);
        events.map_err(|err| self.log(Level::Warning, "watch-failed", &[("why", &err)])).ok()
    }

    /// Sees what became of the interface.
    fn look(&self) {
        let Some(ipv6) = &self.ipv6 else { return };
        let found = match self.place.again() {
            Ok(found) => found,
            Err(gone) => return self.end(gone),
        };
        let Ok(addresses) = found.netlink.addresses(&found.link) else { return };
        let carried = ipv6.carried.replace(carries(&found.link));
        if !self.target.settings.family.has_ipv4() {
            self.see_carrier(Some(&found.link));
        }
        let phase = ipv6.client.borrow().phase();
        if phase == Phase::Init && addresses.iter().any(is_usable_on_link) {
            self.step_ipv6(Event::Start);
        } else if !carried && ipv6.carried.get() {
            self.step_ipv6(Event::Carrier);
        }
        if ipv6.router.get() != found.link.router {
            ipv6.router.set(found.link.router);
            let managed = found.link.router.is_some_and(|router| router.managed);
            self.log(Level::Info, "router-advertisement", &[("managed", &managed)]);
        }
        let unmanaged = ipv6.router.get().is_some_and(|router| !router.managed);
        if unmanaged && matches!(ipv6.client.borrow().phase(), Phase::Init | Phase::Soliciting) {
            // RFC 4861, section 4.2: there is no server.
            self.step_ipv6(Event::Release);
        }
        self.settle_ipv6(&found.link, &addresses);
        self.wake();
    }

    /// Looks whether another host has the leased address: the kernel takes one with a lifetime away then
    /// (`addrconf_dad_stop` in net/ipv6/addrconf.c).
    fn settle_ipv6(&self, link: &Link, addresses: &[Address]) {
        let Some(ipv6) = &self.ipv6 else { return };
        let leased = ipv6.client.borrow().lease().map(|lease| lease.address);
        let Some(leased) = leased.filter(|_| ipv6.settling.get()) else { return ipv6.settling.set(false) };
        let found = addresses.iter().find(|address| address.cidr.ip() == IpAddr::V6(leased));
        // A link that goes down loses its addresses too.
        if !carries(link) || found.is_some_and(|address| address.tentative && !address.duplicate) {
            return;
        }
        ipv6.settling.set(false);
        if found.is_none_or(|address| address.duplicate) {
            self.log(Level::Error, "address-in-use", &[("address", &leased)]);
            self.step_ipv6(Event::Conflict);
        }
    }

    /// Takes a step of the state machine, and does what it says.
    pub(crate) fn step_ipv6(&self, event: Event<'_>) {
        let Some(ipv6) = self.ipv6.as_ref().filter(|_| self.ended().is_none()) else { return };
        let actions = ipv6.client.borrow_mut().step(event, self.daemon.clock.now());
        for action in actions {
            match action {
                Action::Send { kind, message } => self.send_ipv6(kind, &message),
                Action::Use(lease) => self.use_ipv6(&lease),
                Action::Drop(lease, why) => self.drop_ipv6(&lease, why),
                Action::Refused(kind, why) => {
                    self.log(Level::Warning, "message-refused", &[("type", &kind.name()), ("why", &why)]);
                }
            }
        }
        if !ipv6.client.borrow().listens() {
            ipv6.port.replace(None);
        }
        ipv6.changed.notify_one();
        self.wake();
    }

    fn send_ipv6(&self, kind: MessageType, message: &[u8]) {
        if let Err(err) = self.ipv6_port().and_then(|port| port.send(message)) {
            self.log(Level::Warning, "send-failed", &[("type", &kind.name()), ("why", &err)]);
        }
    }

    /// The socket, opened where it is not.
    fn ipv6_port(&self) -> std::io::Result<Rc<Ipv6Port>> {
        let Some(ipv6) = &self.ipv6 else { return Err(std::io::ErrorKind::Unsupported.into()) };
        if let Some(port) = &*ipv6.port.borrow() {
            return Ok(port.clone());
        }
        let found = self.place.again().map_err(|gone| std::io::Error::other(gone.to_string()))?;
        let port = Rc::new(Ipv6Port::open(&found.netns, &self.place.ifname, self.place.index)?);
        ipv6.port.replace(Some(port.clone()));
        Ok(port)
    }

    fn use_ipv6(&self, lease: &Lease) {
        let seconds = seconds(lease).map_or("infinite".to_owned(), |seconds| seconds.to_string());
        let server = String::from(Hex(lease.server.clone()));
        let fields: [(&str, &dyn Display); 3] =
            [("address", &lease.address), ("server", &server), ("seconds", &seconds)];
        self.log(Level::Info, "lease", &fields);
        if let Err(err) = self.daemon.store.save_ipv6(&self.target, &self.place, lease) {
            self.log(Level::Error, "lease-not-saved", &[("why", &err)]);
        }
        if let Err(err) = self.configure_ipv6(lease) {
            self.log(Level::Error, "not-configured", &[("address", &lease.address), ("why", &err)]);
        }
    }

    /// Gives the interface the address for the time of the lease, in place of an earlier one.
    fn configure_ipv6(&self, lease: &Lease) -> Result<()> {
        let Some(ipv6) = &self.ipv6 else { return Ok(()) };
        let found = self.found()?;
        let before = found.netlink.addresses(&found.link)?;
        let leased = |cidr: Cidr| cidr.prefix() == 128 && cidr.is_ipv6();
        let earlier: Vec<Cidr> = before.iter().map(|it| it.cidr).filter(|cidr| leased(*cidr)).collect();
        let now = self.daemon.clock.now();
        let remaining = |at: Option<Time>| at.map(|at| super::configure::remaining(at, now));
        let (preferred, valid) = (remaining(lease.preferred), remaining(lease.expiry()));
        found.netlink.lease_ipv6_address(&found.link, lease.address, preferred, valid)?;
        for cidr in earlier.iter().filter(|cidr| cidr.ip() != IpAddr::V6(lease.address)) {
            self.log(Level::Warning, "address-changed", &[("before", cidr), ("after", &lease.address)]);
            found.netlink.delete_address(&found.link, *cidr)?;
        }
        ipv6.settling.set(!earlier.iter().any(|cidr| cidr.ip() == IpAddr::V6(lease.address)));
        Ok(())
    }

    fn drop_ipv6(&self, lease: &Lease, why: Drop) {
        self.log_drop(why, &lease.address, &String::from(Hex(lease.server.clone())));
        if let Err(err) = self.daemon.store.remove_ipv6(&self.target.id) {
            self.log(Level::Error, "lease-not-removed", &[("why", &err)]);
        }
        // After a release the plugin deletes the interface, and until then traffic may end in peace.
        let removed = match self.place.again() {
            Ok(found) if why != Drop::Released => {
                found.netlink.delete_address(&found.link, Cidr::host(lease.address.into()))
            }
            _ => Ok(()),
        };
        if let Err(err) = removed {
            self.log(Level::Error, "address-not-removed", &[("address", &lease.address), ("why", &err)]);
        }
    }

    /// Has the interface watched while an ADD waits for addresses.
    pub(crate) fn await_ipv6(&self, awaited: bool) {
        if let Some(ipv6) = &self.ipv6 {
            ipv6.awaited.set(awaited);
            ipv6.changed.notify_one();
        }
    }

    /// Releases the lease, and waits a moment for the server's answer.
    pub(crate) async fn release_ipv6(&self) {
        let Some(ipv6) = &self.ipv6 else { return };
        self.step_ipv6(Event::Release);
        let limit = self.daemon.clock.now().after(RELEASE);
        while self.ended().is_none() && ipv6.port.borrow().is_some() && self.daemon.clock.now() < limit {
            tokio::select! {
                () = self.news() => {}
                () = self.daemon.clock.until(Some(limit)) => {}
            }
        }
    }

    /// Whether IPv6 addresses came as the network has them: a lease, or those of a router advertisement that
    /// has no lease follow.
    pub(crate) fn has_ipv6(&self) -> bool {
        let Some(ipv6) = &self.ipv6 else { return false };
        let unmanaged = ipv6.router.get().is_some_and(|router| !router.managed);
        ipv6.is_bound() || (unmanaged && !self.slaac().is_empty())
    }

    /// The addresses that the kernel made by router advertisements.
    pub(crate) fn slaac(&self) -> Vec<Cidr> {
        let Some(ipv6) = &self.ipv6 else { return Vec::new() };
        let Ok(found) = self.place.again() else { return Vec::new() };
        let leased = ipv6.client.borrow().lease().map(|lease| IpAddr::V6(lease.address));
        let addresses = found.netlink.addresses(&found.link).unwrap_or_default();
        let made = addresses.into_iter().filter(|it| {
            let global = it.cidr.is_ipv6() && it.scope == GLOBAL;
            global && !it.temporary && !it.duplicate && Some(it.cidr.ip()) != leased
        });
        made.map(|it| it.cidr).collect()
    }

    /// The IPv6 side as it is reported.
    pub(crate) fn report_ipv6(&self) -> Option<Ipv6Report> {
        let client = self.ipv6.as_ref()?.client.borrow();
        let now = self.daemon.clock.now();
        let seconds = |at: Option<Time>| at.map(|at| at.since(now) / SECOND);
        let lease = client.lease();
        Some(Ipv6Report {
            state: client.phase().as_str().to_owned(),
            address: lease.map(|lease| Cidr::host(lease.address.into())),
            server: lease.map(|lease| Hex(lease.server.clone())),
            slaac: self.slaac(),
            dns: lease.map(dns).unwrap_or_default(),
            renewal: seconds(lease.and_then(|lease| lease.timers).map(|timers| timers.renew)),
            expiry: seconds(lease.and_then(Lease::expiry)),
        })
    }
}

/// The seconds of a lease; `None` for ever.
fn seconds(lease: &Lease) -> Option<u64> {
    lease.expiry().map(|expiry| expiry.since(lease.start) / SECOND)
}

fn dns(lease: &Lease) -> Dns {
    Dns {
        nameservers: lease.name_servers().iter().map(Ipv6Addr::to_string).collect(),
        search: lease.search(),
        ..Dns::default()
    }
}

/// Whether messages can be sent from it to the link.
fn is_usable_on_link(address: &Address) -> bool {
    let usable = !address.duplicate && (!address.tentative || address.optimistic);
    address.cidr.is_ipv6() && address.scope == LINK && usable
}

async fn next(events: Option<&Events>) {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn receive(port: Option<Rc<Ipv6Port>>) -> std::io::Result<dhcp_client::v6::Message> {
    match port {
        Some(port) => port.receive().await,
        None => std::future::pending().await,
    }
}

fn config(id: &Id) -> Config {
    Config {
        duid: dhcp_client::v6::duid_of_uuid(uuid(id)),
        iaid: IAID,
        request: vec![code::DNS_SERVERS, code::DOMAIN_LIST],
    }
}

/// A UUID that is always the same for an attachment: version 8, of a hash (RFC 9562, section 5.8). A pod has no
/// machine ID that would tell it from others.
fn uuid(id: &Id) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Sha512::digest(format!("oxcni dhcp {}", id.text()))[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

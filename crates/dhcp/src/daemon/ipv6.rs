//! The IPv6 side of an attachment. Routes, and addresses of router advertisements, are the kernel's
//! own; the daemon has it accept them, sees what comes, and holds a lease of DHCPv6.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use cni_core::netlink::{
    Address, Link, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_IFINFO, RTNLGRP_LINK, RTNLGRP_ND_USEROPT,
    RouterAdvertisement,
};
use cni_core::netns::Netns;
use cni_core::spec::{IfName, Result};
use cni_core::sysctl::Sysctl;
use dhcp_client::v6::{Client, Config, Counters, Event, Lease, Phase, RouterDns, code};
use dhcp_client::{SECOND, Time};
use sha2::{Digest, Sha512};
use tokio::sync::Notify;

use super::attachment::{Attachment, carries};
use super::begin::seed;
use super::events::Events;
use super::ipv6_port::Ipv6Port;
use super::log::Level;
use super::place::Found;
use crate::protocol::Id;

/// The association of each attachment: its DUID is its own.
const IAID: u32 = 1;

/// How long the kernel's events are listened to; after that the interface is looked at again and again.
const WATCHED: u64 = 60 * SECOND;
const LOOK: u64 = 10 * SECOND;

/// How long after an event the interface is looked at: a router advertisement causes several, and a container any number.
const BURST: u64 = 5;

/// How often an interface is looked at whose routers say that there is no DHCPv6 server, as they may change that: their
/// default interval (RFC 4861, section 6.2.1). Events would need a socket in the container's namespace.
const RESTING: u64 = 600 * SECOND;

/// How long after a beginning the client begins again where a router changes its mind: others may announce anything, as
/// often as they like (`SOL_MAX_DELAY` of RFC 8415, section 7.6).
const AGAIN: u64 = SECOND;

/// The scope of addresses that reach the link alone (include/uapi/linux/rtnetlink.h).
const LINK: u8 = 253;

/// What an attachment has for IPv6.
pub(crate) struct Ipv6 {
    pub(super) client: RefCell<Client>,
    pub(super) port: RefCell<Option<Rc<Ipv6Port>>>,
    /// The latest router advertisement.
    router: Cell<Option<RouterAdvertisement>>,
    /// What router advertisements say of DNS, as long as the kernel's events are listened to.
    pub(super) router_dns: RefCell<RouterDns>,
    carried: Cell<bool>,
    /// When the client began.
    began: Cell<Time>,
    /// An ADD waits for addresses.
    awaited: Cell<bool>,
    /// Duplicate address detection of the leased address is not finished.
    pub(super) settling: Cell<bool>,
    /// The leased address that the daemon has put on the interface.
    pub(super) on_link: Cell<Option<Ipv6Addr>>,
    /// The lease that is kept on disk: the latest one, unless it was refused.
    pub(super) kept: RefCell<Option<Lease>>,
    /// It is being released: nothing begins any more.
    pub(super) leaving: Cell<bool>,
    /// The kernel's events, from before the first router was solicited on.
    first_events: Cell<Option<Events>>,
    /// Wakes [`Ipv6::run`] after a change from outside.
    pub(super) changed: Notify,
}

impl Ipv6 {
    /// Of an attachment without a lease, which would like to have this address.
    pub(crate) fn new(id: &Id, address: Option<Ipv6Addr>) -> Ipv6 {
        let config = config(id);
        let ipv6 = Ipv6::with(match address {
            None => Client::new(config, seed()),
            Some(address) => Client::with_address(config, seed(), address),
        });
        ipv6.on_link.set(address);
        ipv6
    }

    /// Of an attachment that goes on with a lease; its servers are asked first where the interface has
    /// lost the address.
    pub(crate) fn with_lease(id: &Id, lease: Lease, confirm: bool) -> Ipv6 {
        let (address, kept) = (lease.address, lease.clone());
        let ipv6 = Ipv6::with(Client::with_lease(config(id), seed(), lease, confirm));
        ipv6.on_link.set(Some(address));
        ipv6.kept.replace(Some(kept));
        ipv6
    }

    /// With a subscription to the kernel's events.
    pub(crate) fn listening(self, events: Events) -> Ipv6 {
        self.first_events.set(Some(events));
        self
    }

    fn with(client: Client) -> Ipv6 {
        Ipv6 {
            client: RefCell::new(client),
            port: RefCell::default(),
            router: Cell::default(),
            router_dns: RefCell::default(),
            carried: Cell::default(),
            began: Cell::default(),
            awaited: Cell::default(),
            settling: Cell::default(),
            on_link: Cell::default(),
            kept: RefCell::default(),
            leaving: Cell::default(),
            first_events: Cell::default(),
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

    /// Whether the latest router advertisement says that there is no DHCPv6 server.
    pub(crate) fn has_unmanaged_router(&self) -> bool {
        self.router.get().is_some_and(|router| !router.managed)
    }

    /// Closes its socket.
    pub(crate) fn close(&self) {
        self.port.replace(None);
        self.changed.notify_one();
    }

    /// Has the interface watched while an ADD waits for addresses.
    pub(crate) fn set_awaited(&self, awaited: bool) {
        self.awaited.set(awaited);
        self.changed.notify_one();
    }

    /// Whether the interface has to be looked at for more than the lease's timers.
    fn is_watched(&self) -> bool {
        self.awaited.get() || self.settling.get() || self.phase() == Phase::Init
    }

    fn phase(&self) -> Phase {
        self.client.borrow().phase()
    }

    /// Renews the lease now, or looks whether there may be one now.
    pub(crate) fn renew(&self, of: &Attachment) {
        self.step(of, Event::Renew);
        if self.phase() == Phase::Stopped {
            self.look(of);
        }
    }

    /// Takes in all that happens, until the attachment is over.
    pub(crate) async fn run(&self, of: &Attachment) {
        let clock = &of.daemon.clock;
        let watched = clock.now().after(WATCHED);
        let mut events = self.first_events.take();
        let mut burst = None;
        self.look(of);
        while of.ended().is_none() {
            let wanted = self.is_watched() && clock.now() < watched;
            if wanted && events.is_none() {
                events = watch(of);
                // What happened before the subscription was not seen.
                self.look(of);
            } else if !wanted {
                events = None;
            }
            let deadline = self.client.borrow().deadline();
            let look_again = burst.or_else(|| self.look_again(clock.now(), events.is_some()));
            let port = self.port.borrow().clone();
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = next(events.as_ref().filter(|_| burst.is_none())) => burst = Some(clock.now().after(BURST)),
                () = clock.until(deadline) => match of.place.again() {
                    Ok(_) => self.step(of, Event::Timer),
                    Err(gone) => of.end(gone),
                },
                () = clock.until(look_again) => {
                    burst = None;
                    self.read(of, events.as_ref());
                    self.look(of);
                }
                // Last, as it may be without end.
                message = receive(port) => match message {
                    Ok(message) => self.step(of, Event::Received(&message)),
                    Err(err) => of.log(Level::Warning, "receive-failed", &[("why", &err)]),
                },
            }
        }
    }

    /// When the interface is to be looked at where no event comes before.
    fn look_again(&self, now: Time, listens: bool) -> Option<Time> {
        let wait = match self.phase() {
            Phase::Stopped if !self.has_unmanaged_router() => AGAIN,
            _ if self.is_watched() && listens => WATCHED,
            _ if self.is_watched() => LOOK,
            Phase::Stopped => RESTING,
            _ => return None,
        };
        Some(now.after(wait))
    }

    /// Takes in what the kernel tells only once.
    fn read(&self, of: &Attachment, events: Option<&Events>) {
        let Some(events) = events else { return };
        let (mut dns, now) = (self.router_dns.borrow_mut(), of.daemon.clock.now());
        events.read(|index, option| {
            if index == of.place.index {
                dns.read(option, now);
            }
        });
    }

    /// Sees what became of the interface.
    fn look(&self, of: &Attachment) {
        let found = match of.place.again() {
            Ok(found) => found,
            Err(gone) => return of.end(gone),
        };
        let Ok(addresses) = found.netlink.addresses(&found.link) else { return };
        let carried = self.carried.replace(carries(&found.link));
        if of.ipv4.is_none() {
            of.see_carrier(Some(&found.link));
        }
        let usable = addresses.iter().any(is_usable_on_link);
        if self.phase() == Phase::Init && usable {
            self.start(of);
        } else if !carried && self.carried.get() {
            self.step(of, Event::Carrier);
        }
        if self.router.get() != found.link.router {
            self.router.set(found.link.router);
            let managed = found.link.router.is_some_and(|router| router.managed);
            of.log(Level::Info, "router-advertisement", &[("managed", &managed)]);
        }
        // RFC 4861, section 4.2: without the M flag there is no server.
        match self.phase() {
            Phase::Init | Phase::Soliciting if self.has_unmanaged_router() => self.step(of, Event::Release),
            Phase::Stopped if usable && !self.has_unmanaged_router() && self.may_begin_again(of) => {
                self.start(of)
            }
            _ => {}
        }
        self.settle(of, &found.link, &addresses);
        of.wake();
    }

    fn start(&self, of: &Attachment) {
        self.began.set(of.daemon.clock.now());
        self.step(of, Event::Start);
    }

    fn may_begin_again(&self, of: &Attachment) -> bool {
        !self.leaving.get() && of.daemon.clock.now().since(self.began.get()) >= AGAIN
    }

    /// Looks whether another host has the leased address: the kernel takes one with a lifetime away then
    /// (`addrconf_dad_stop` in net/ipv6/addrconf.c).
    fn settle(&self, of: &Attachment, link: &Link, addresses: &[Address]) {
        let leased = self.client.borrow().lease().map(|lease| lease.address);
        let Some(leased) = leased.filter(|_| self.settling.get()) else { return self.settling.set(false) };
        let found = addresses.iter().find(|address| address.cidr.ip() == IpAddr::V6(leased));
        // A link that goes down loses its addresses too.
        if !carries(link) || found.is_some_and(|address| address.tentative && !address.duplicate) {
            return;
        }
        self.settling.set(false);
        if found.is_none_or(|address| address.duplicate) {
            of.log(Level::Error, "address-in-use", &[("address", &leased)]);
            self.step(of, Event::Conflict);
        }
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

/// Subscribes to what may happen to an interface.
///
/// # Errors
/// Those of the socket.
pub(crate) fn events(netns: &Netns) -> std::io::Result<Events> {
    Events::within(netns, &[RTNLGRP_LINK, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_IFINFO, RTNLGRP_ND_USEROPT])
}

fn watch(of: &Attachment) -> Option<Events> {
    let found = of.place.again().map_err(|gone| of.end(gone)).ok()?;
    events(&found.netns).map_err(|err| of.log(Level::Warning, "watch-failed", &[("why", &err)])).ok()
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

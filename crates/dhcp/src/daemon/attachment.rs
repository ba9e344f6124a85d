//! One attachment: its interface, what it has of IPv4 and of IPv6, and its end.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::{Rc, Weak};

use cni_core::netlink::{Link, OperState};
use cni_core::spec::{Error, Result};
use dhcp_client::{Drop, Time};
use tokio::sync::Notify;

use super::Daemon;
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::log::{Budget, Level, log};
use super::place::{Found, Gone, Place};
use super::store::Leases;
use crate::protocol::Target;

/// An attachment that has a lease, or is to get one.
pub(crate) struct Attachment {
    pub(crate) daemon: Rc<Daemon>,
    pub(crate) target: Target,
    pub(crate) place: Place,
    /// What there is for IPv4, where the family has it.
    pub(crate) ipv4: Option<Ipv4>,
    /// What there is for IPv6, where the family has it.
    pub(crate) ipv6: Option<Ipv6>,
    /// Since when the link has carried packets, as far as this daemon has seen.
    carrier: Cell<Option<Time>>,
    /// Why it is over; set once.
    ended: RefCell<Option<Gone>>,
    /// Wakes all who wait for a lease.
    news: Notify,
    budget: Budget,
    /// Itself, for tasks that outlive a step.
    pub(crate) itself: Weak<Attachment>,
}

impl Attachment {
    /// An attachment that has not begun.
    pub(crate) fn new(
        daemon: &Rc<Daemon>,
        target: Target,
        place: Place,
        ipv4: Option<Ipv4>,
        ipv6: Option<Ipv6>,
    ) -> Rc<Attachment> {
        Rc::new_cyclic(|itself| Attachment {
            daemon: daemon.clone(),
            target,
            place,
            ipv4,
            ipv6,
            carrier: Cell::default(),
            ended: RefCell::default(),
            news: Notify::new(),
            budget: Budget::default(),
            itself: itself.clone(),
        })
    }

    /// Takes in all that happens to its IPv4 side, until it is over.
    pub(crate) async fn run_ipv4(self: Rc<Attachment>) {
        if let Some(ipv4) = &self.ipv4 {
            ipv4.run(&self).await;
        }
    }

    /// Takes in all that happens to its IPv6 side, until it is over.
    pub(crate) async fn run_ipv6(self: Rc<Attachment>) {
        if let Some(ipv6) = &self.ipv6 {
            ipv6.run(&self).await;
        }
    }

    /// The interface.
    ///
    /// # Errors
    /// What became of it.
    pub(crate) fn found(&self) -> Result<Found> {
        self.place.again().map_err(|gone| Error::check(gone.to_string()))
    }

    /// Whether the interface has an IPv4 address. bind(2) does not tell: where the namespace never had one, it takes any
    /// as a broadcast address (`__inet_dev_addr_type` in net/ipv4/fib_frontend.c), and 0.0.0.0 is sent from.
    pub(crate) fn has_address(&self, address: Ipv4Addr) -> bool {
        let addresses = self.found().and_then(|found| Ok(found.netlink.addresses(&found.link)?));
        addresses.is_ok_and(|all| all.iter().any(|it| it.cidr.ip() == IpAddr::V4(address)))
    }

    /// Notes whether the link carries packets.
    pub(crate) fn see_carrier(&self, link: Option<&Link>) {
        let carries = link.is_some_and(carries);
        self.carrier.set(carries.then(|| self.carrier.get().unwrap_or(self.daemon.clock.now())));
    }

    /// Since when the link has carried packets.
    pub(crate) fn carrier(&self) -> Option<Time> {
        self.carrier.get()
    }

    /// Keeps it for the next daemon.
    pub(crate) fn save(&self) {
        let leases = Leases {
            target: self.target.clone(),
            place: self.place.clone(),
            broadcast: self.ipv4.as_ref().is_some_and(|ipv4| ipv4.client.borrow().config().broadcast),
            ipv4: self.ipv4.as_ref().and_then(|ipv4| ipv4.kept.borrow().clone()),
            ipv6: self.ipv6.as_ref().and_then(|ipv6| ipv6.kept.borrow().clone()),
        };
        if let Err(err) = self.daemon.store.save(leases) {
            self.log(Level::Error, "lease-not-saved", &[("why", &err)]);
        }
    }

    /// Forgets it: the next daemon must not go on with what was released.
    fn unsave(&self) {
        if let Err(err) = self.daemon.store.remove(&self.target.id) {
            self.log(Level::Error, "lease-not-removed", &[("why", &err)]);
        }
    }

    /// Releases its leases, and waits until the messages were sent.
    pub(crate) async fn release(&self) {
        // Another may have begun in its place.
        if self.ended.borrow().is_some() {
            return;
        }
        self.unsave();
        // Nobody can send them, and the log must not say that somebody did.
        if let Err(gone) = self.place.again() {
            return self.end(gone);
        }
        if let Some(ipv4) = &self.ipv4 {
            ipv4.release(self).await;
        }
        if let Some(ipv6) = &self.ipv6 {
            ipv6.release(self).await;
        }
        self.finish(Gone::Released);
    }

    /// Ends it because of what became of the interface.
    pub(crate) fn end(&self, gone: Gone) {
        let held =
            self.ipv4.as_ref().is_some_and(Ipv4::is_bound) || self.ipv6.as_ref().is_some_and(Ipv6::is_bound);
        if held {
            let why = format!("{gone}: the lease is not renewed any more, and ends by itself");
            self.log(Level::Warning, "given-up", &[("why", &why)]);
        }
        self.finish(gone);
    }

    fn finish(&self, gone: Gone) {
        if self.ended.borrow().is_none() {
            self.ended.replace(Some(gone));
            if let Some(ipv4) = &self.ipv4 {
                ipv4.close();
            }
            if let Some(ipv6) = &self.ipv6 {
                ipv6.close();
            }
            self.unsave();
            self.daemon.forget(self);
        }
        self.wake();
    }

    /// Why it is over.
    pub(crate) fn ended(&self) -> Option<Gone> {
        self.ended.borrow().clone()
    }

    /// Waits for the end.
    pub(crate) async fn over(&self) {
        while self.ended.borrow().is_none() {
            self.news().await;
        }
    }

    /// Wakes all who wait for news.
    pub(crate) fn wake(&self) {
        self.news.notify_waiters();
    }

    /// Waits for the next change.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether it is what a call means: with its settings, of its interface, which is still there.
    pub(crate) fn is_of(&self, target: &Target) -> bool {
        let path = self.daemon.flags.on_host(&target.netns);
        let found = Place::find(&path, &target.id.attachment.ifname);
        target.settings == self.target.settings && found.is_ok_and(|(place, _)| place.is_same(&self.place))
    }

    /// Logs why an address is not used any more.
    pub(crate) fn log_drop(&self, why: Drop, address: &dyn Display, server: &dyn Display) {
        let (level, event) = match why {
            Drop::Released => (Level::Info, "released"),
            Drop::Expired => (Level::Error, "expired"),
            Drop::Nak => (Level::Warning, "refused-by-server"),
            Drop::Conflict => (Level::Error, "address-conflict"),
        };
        self.log(level, event, &[("address", address), ("server", server)]);
    }

    /// Logs an event of this attachment, unless there were too many.
    pub(crate) fn log(&self, level: Level, event: &str, fields: &[(&str, &dyn Display)]) {
        let Some(left_out) = self.budget.spend(self.daemon.clock.now()) else { return };
        let attachment = &self.target.id.attachment;
        let mut all: Vec<(&str, &dyn Display)> = vec![
            ("container", &attachment.container_id),
            ("network", &self.target.id.network),
            ("ifname", &attachment.ifname),
        ];
        all.extend(fields);
        if left_out > 0 {
            all.push(("left-out", &left_out));
        }
        log(level, event, &all);
    }
}

/// Whether packets pass the link.
pub(crate) fn carries(link: &Link) -> bool {
    link.up && link.oper_state != OperState::Down
}

//! One attachment: the state machine, its sockets, its interface, its file.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::{Rc, Weak};

use cni_core::netlink::{IpvlanMode, Link, OperState};
use cni_core::spec::{Cidr, Code, Dns, Error, Result};
use dhcp_client::v4::{Action, Client, Config, Counters, Event, Lease, Listen, MessageType, Timing, Via};
use dhcp_client::{Drop, SECOND, Time};
use tokio::sync::Notify;

use super::Daemon;
use super::ipv6::{self, Ipv6};
use super::log::{Level, log};
use super::on_link::{OnLink, routes};
use super::place::{Gone, Place};
use super::port::{Input, Port};
use super::store::Leases;
use crate::protocol::{Family, Report, Target};

/// The longest client identifier (option 61), its type byte included.
const LONGEST_ID: usize = 255;

/// An attachment that has a lease, or is to get one.
pub(crate) struct Attachment {
    pub(crate) daemon: Rc<Daemon>,
    pub(crate) target: Target,
    pub(crate) place: Place,
    /// The client of DHCPv4; it does not begin where the family is IPv6.
    client: RefCell<Client>,
    port: RefCell<Option<Rc<Port>>>,
    /// What there is for IPv6, where the family has it.
    pub(crate) ipv6: Option<Ipv6>,
    /// Since when the link has carried packets, as far as this daemon has seen.
    carrier: Cell<Option<Time>>,
    /// What this daemon knows to be configured on the interface.
    pub(crate) on_link: RefCell<Option<OnLink>>,
    /// Whether the daemon itself configures what comes: the plugin that made the interface did so once.
    pub(crate) configures: Cell<bool>,
    /// Why it is over; set once.
    ended: RefCell<Option<Gone>>,
    /// Wakes [`Attachment::run`] after a change from outside.
    changed: Notify,
    /// Wakes all who wait for a lease.
    news: Notify,
    /// Itself, for tasks that outlive a step.
    pub(crate) itself: Weak<Attachment>,
}

impl Attachment {
    /// Begins to obtain a lease.
    ///
    /// # Errors
    /// When there is no such interface, or DHCP can't work over it.
    pub(crate) fn obtain(daemon: &Rc<Daemon>, target: Target) -> Result<Rc<Attachment>> {
        Self::begin(daemon, target, Client::new, None)
    }

    /// Asks the servers for leases of the addresses that an interface has already.
    ///
    /// # Errors
    /// As [`Attachment::obtain`].
    pub(crate) fn adopt(
        daemon: &Rc<Daemon>,
        target: Target,
        address: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    ) -> Result<Rc<Attachment>> {
        let client = |config: Config, seed: u64| match address {
            Some(address) => Client::with_address(config, seed, address),
            None => Client::new(config, seed),
        };
        let attachment = Self::begin(daemon, target, client, ipv6)?;
        let found = attachment.place.again().map_err(|gone| Error::check(gone.to_string()))?;
        let addresses = found.netlink.addresses(&found.link)?;
        let cidr =
            addresses.iter().map(|found| found.cidr).find(|cidr| Some(cidr.ip()) == address.map(IpAddr::V4));
        attachment.on_link.replace(cidr.map(|cidr| OnLink { cidr, routes: Vec::new() }));
        attachment.configures.set(true);
        Ok(attachment)
    }

    fn begin(
        daemon: &Rc<Daemon>,
        target: Target,
        client: impl FnOnce(Config, u64) -> Client,
        ipv6_address: Option<Ipv6Addr>,
    ) -> Result<Rc<Attachment>> {
        let path = daemon.flags.on_host(&target.netns);
        let (place, found) = Place::find(&path, &target.id.attachment.ifname)?;
        let family = target.settings.family;
        let ipvlan = found.link.is("ipvlan");
        if ipvlan && found.link.ipvlan_mode() != Some(IpvlanMode::L2) {
            return Err(Error::invalid_config("DHCP can't work over ipvlan in the modes l3 and l3s")
                .details("no broadcast passes there; mode l2 works"));
        }
        if family.has_ipv6() {
            ipv6::prepare(&found, &target.id.attachment.ifname)?;
        }
        // Containers on ipvlan share one MAC address: only a broadcast reaches the right one.
        let broadcast = daemon.flags.broadcast || ipvlan;
        if !found.link.up {
            found.netlink.set_up(&found.link)?;
        }
        let client = client(client_config(daemon, &target, &place, broadcast), seed());
        let ipv6 = family.has_ipv6().then(|| Ipv6::new(&target.id, ipv6_address));
        let attachment = Self::new(daemon, target, place, client, ipv6);
        attachment.see_carrier(found.netlink.link_by_index(found.link.index)?.as_ref());
        attachment.start();
        attachment.failed_at_once()?;
        Ok(attachment)
    }

    /// Goes on with leases after a restart of the daemon.
    ///
    /// # Errors
    /// What became of the interface.
    pub(crate) fn resume(daemon: &Rc<Daemon>, leases: Leases) -> Result<Rc<Attachment>, Gone> {
        let Leases { target, place, broadcast, ipv4, ipv6 } = leases;
        let found = place.again()?;
        let addresses = found.netlink.addresses(&found.link).map_err(|err| Gone::Unknown(err.into()))?;
        let has = |ip: IpAddr| addresses.iter().any(|address| address.cidr.ip() == ip);
        let config = client_config(daemon, &target, &place, broadcast);
        let on_link = ipv4.as_ref().filter(|lease| has(lease.address.into()));
        let on_link = on_link.and_then(|lease| OnLink::of(lease, &target));
        let client = match ipv4 {
            Some(lease) => Client::with_lease(config, seed(), lease, on_link.is_none()),
            None => Client::new(config, seed()),
        };
        let ipv6 = target.settings.family.has_ipv6().then(|| match ipv6 {
            Some(lease) => {
                let confirm = !has(lease.address.into());
                Ipv6::with_lease(&target.id, lease, confirm)
            }
            None => Ipv6::new(&target.id, None),
        });
        let attachment = Self::new(daemon, target, place, client, ipv6);
        attachment.on_link.replace(on_link);
        attachment.configures.set(true);
        attachment.see_carrier(Some(&found.link));
        attachment.start();
        Ok(attachment)
    }

    fn new(
        daemon: &Rc<Daemon>,
        target: Target,
        place: Place,
        client: Client,
        ipv6: Option<Ipv6>,
    ) -> Rc<Attachment> {
        Rc::new_cyclic(|itself| Attachment {
            daemon: daemon.clone(),
            target,
            place,
            client: RefCell::new(client),
            port: RefCell::default(),
            ipv6,
            carrier: Cell::default(),
            on_link: RefCell::default(),
            configures: Cell::default(),
            ended: RefCell::default(),
            changed: Notify::new(),
            news: Notify::new(),
            itself: itself.clone(),
        })
    }

    /// Begins with IPv4; IPv6 begins as soon as the link has an address.
    fn start(&self) {
        if self.target.settings.family.has_ipv4() {
            self.step(Event::Start);
        }
    }

    /// An error where the first step found that the interface is of no use.
    fn failed_at_once(&self) -> Result<()> {
        match &*self.ended.borrow() {
            Some(gone) => Err(Error::new(Code::KERNEL, format!("interface {}: {gone}", self.place.ifname))),
            None => Ok(()),
        }
    }

    /// Takes in all that happens, until it is over.
    pub(crate) async fn run(self: Rc<Attachment>) {
        while self.ended.borrow().is_none() {
            let deadline = self.client.borrow().deadline();
            let port = self.port.borrow().clone();
            let input = async {
                match port {
                    Some(port) => port.receive().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                input = input => self.take(input),
                () = self.daemon.clock.until(deadline) => self.timer(),
            }
        }
    }

    fn timer(&self) {
        match self.place.again() {
            Ok(_) => self.step(Event::Timer),
            Err(gone) => self.end(gone),
        }
    }

    fn take(&self, input: Input) {
        match input {
            Input::Packet(packet) => self.step(Event::Received(&packet)),
            Input::Link => match self.place.again() {
                Ok(found) => {
                    let had = self.carrier.get().is_some();
                    self.see_carrier(Some(&found.link));
                    if !had && self.carrier.get().is_some() {
                        self.step(Event::Carrier);
                    }
                }
                Err(gone) => self.end(gone),
            },
            Input::Failed(err) => match self.place.again() {
                // A link that was set down reports it once; the next message is tried all the same.
                Ok(_) => self.log(Level::Warning, "receive-failed", &[("why", &err)]),
                Err(gone) => self.end(gone),
            },
        }
    }

    pub(crate) fn see_carrier(&self, link: Option<&Link>) {
        let carries = link.is_some_and(carries);
        self.carrier.set(carries.then(|| self.carrier.get().unwrap_or(self.daemon.clock.now())));
    }

    /// Takes a step of the state machine, and does what it says.
    pub(crate) fn step(&self, event: Event<'_>) {
        if self.ended.borrow().is_some() {
            return;
        }
        let actions = self.client.borrow_mut().step(event, self.daemon.clock.now());
        for action in actions {
            match action {
                Action::Send { kind, via, message } => self.send(kind, via, &message),
                Action::Use(lease) => self.use_lease(&lease),
                Action::Drop(lease, why) => self.drop_lease(&lease, why),
                Action::Refused(kind, why) => {
                    self.log(
                        Level::Warning,
                        "message-refused",
                        &[("type", &kind.name()), ("why", &why.as_str())],
                    );
                }
            }
        }
        let listen = self.client.borrow().listen();
        if let Err(err) = self.listen(listen) {
            self.log(Level::Warning, "listen-failed", &[("why", &err)]);
        }
        self.changed.notify_one();
        self.wake();
    }

    fn send(&self, kind: MessageType, via: Via, message: &[u8]) {
        let sent = match via {
            Via::Link => {
                self.listen(Listen::Link).and_then(|port| with(port, |port| port.broadcast(message)))
            }
            Via::Address { from, to } => match self.listen(Listen::Address(from)) {
                Ok(port) => with(port, |port| port.send_to(to, message)),
                // The interface never got the address, or lost it: the server must know of it all the same.
                Err(_) if kind == MessageType::Release => self
                    .listen(Listen::Link)
                    .and_then(|port| with(port, |port| port.send_as(from, to, message))),
                Err(err) => Err(err),
            },
        };
        if let Err(err) = sent {
            self.log(Level::Warning, "send-failed", &[("type", &kind.name()), ("why", &err)]);
        }
    }

    /// Opens the socket for answers, unless it is open, and closes another one.
    fn listen(&self, listen: Listen) -> std::io::Result<Option<Rc<Port>>> {
        let open = self.port.borrow().clone();
        let fits = match (&open, listen) {
            (None, Listen::Nothing) => true,
            (Some(port), Listen::Link) => matches!(**port, Port::Link { .. }),
            (Some(port), Listen::Address(wanted)) => {
                matches!(**port, Port::Address { address, .. } if address == wanted)
            }
            _ => false,
        };
        if fits {
            return Ok(open);
        }
        drop(open);
        self.port.replace(None);
        let port = match listen {
            Listen::Nothing => return Ok(None),
            Listen::Link => {
                let found = self.place.again().map_err(|gone| std::io::Error::other(gone.to_string()))?;
                Port::at_link(&found.netns, self.place.index)?
            }
            Listen::Address(address) => {
                let found = self.place.again().map_err(|gone| std::io::Error::other(gone.to_string()))?;
                Port::at_address(&found.netns, &self.place.ifname, address)?
            }
        };
        let port = Rc::new(port);
        self.port.replace(Some(port.clone()));
        Ok(Some(port))
    }

    fn use_lease(&self, lease: &Lease) {
        let seconds =
            lease.expiry().map_or("infinite".to_owned(), |end| (end.since(lease.start) / SECOND).to_string());
        let fields: [(&str, &dyn Display); 3] =
            [("address", &lease.address), ("server", &lease.server), ("seconds", &seconds)];
        self.log(Level::Info, "lease", &fields);
        let broadcast = self.client.borrow().config().broadcast;
        if let Err(err) = self.daemon.store.save(&self.target, &self.place, broadcast, lease) {
            self.log(Level::Error, "lease-not-saved", &[("why", &err)]);
        }
        if let Err(err) = self.configure(lease) {
            self.log(Level::Error, "not-configured", &[("address", &lease.address), ("why", &err)]);
        }
    }

    fn drop_lease(&self, lease: &Lease, why: Drop) {
        self.log_drop(why, &lease.address, &lease.server);
        if let Err(err) = self.daemon.store.remove(&self.target.id) {
            self.log(Level::Error, "lease-not-removed", &[("why", &err)]);
        }
        // After a release the plugin deletes the interface, and until then traffic may end in peace.
        if why != Drop::Released
            && let Err(err) = self.unconfigure(lease)
        {
            self.log(Level::Error, "address-not-removed", &[("address", &lease.address), ("why", &err)]);
        }
    }

    /// Releases the lease, and waits until the message was sent.
    pub(crate) async fn release(&self) {
        // Nobody can send it, and the log must not say that somebody did.
        if let Err(gone) = self.place.again() {
            return self.end(gone);
        }
        self.step_release();
        let port = self.port.borrow().clone();
        if let Some(port) = port {
            port.flushed(&self.daemon.clock).await;
        }
        self.release_ipv6().await;
        self.finish(None);
    }

    /// [`Event::Release`] with the socket kept open.
    fn step_release(&self) {
        if self.ended.borrow().is_some() {
            return;
        }
        let actions = self.client.borrow_mut().step(Event::Release, self.daemon.clock.now());
        for action in actions {
            match action {
                Action::Send { kind, via, message } => self.send(kind, via, &message),
                Action::Drop(lease, why) => self.drop_lease(&lease, why),
                Action::Use(_) | Action::Refused(..) => {}
            }
        }
    }

    pub(crate) fn end(&self, gone: Gone) {
        let held = self.is_bound() || self.ipv6.as_ref().is_some_and(Ipv6::is_bound);
        if held {
            let why = format!("{gone}: the lease is not renewed any more, and ends by itself");
            self.log(Level::Warning, "given-up", &[("why", &why)]);
        }
        self.finish(Some(gone));
    }

    fn finish(&self, gone: Option<Gone>) {
        if self.ended.borrow().is_none() {
            self.ended.replace(Some(gone.unwrap_or(Gone::Interface)));
            self.port.replace(None);
            if let Some(ipv6) = &self.ipv6 {
                ipv6.close();
            }
            let _ = self.daemon.store.remove(&self.target.id);
            let _ = self.daemon.store.remove_ipv6(&self.target.id);
            self.daemon.forget(self);
        }
        self.changed.notify_one();
        self.wake();
    }

    /// Wakes all who wait for news.
    pub(crate) fn wake(&self) {
        self.news.notify_waiters();
    }

    /// Waits for the next change.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether it is of the interface that a call means, and that is still there.
    pub(crate) fn is_of(&self, target: &Target) -> bool {
        let path = self.daemon.flags.on_host(&target.netns);
        Place::find(&path, &target.id.attachment.ifname).is_ok_and(|(place, _)| place.is_same(&self.place))
    }

    /// Whether the lease is of this address, and the attachment goes on.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        let holds = self.client.borrow().lease().is_some_and(|lease| lease.address == address);
        holds && self.ended.borrow().is_none()
    }

    /// Whether there is a lease of DHCPv4.
    pub(crate) fn is_bound(&self) -> bool {
        self.client.borrow().lease().is_some()
    }

    /// Whether there is all that the family wants, but for what may come later.
    pub(crate) fn has_addresses(&self) -> bool {
        match self.target.settings.family {
            Family::Ipv4 | Family::Dual => self.is_bound(),
            Family::Ipv6 => self.has_ipv6(),
        }
    }

    /// Why it is over.
    pub(crate) fn ended(&self) -> Option<Gone> {
        self.ended.borrow().clone()
    }

    /// What was sent and received, and since when the link has carried packets.
    pub(crate) fn progress(&self) -> (Counters, Option<Time>) {
        (self.client.borrow().counters(), self.carrier.get())
    }

    /// The lease as it is reported.
    pub(crate) fn report(&self) -> Report {
        let client = self.client.borrow();
        let now = self.daemon.clock.now();
        let lease = client.lease();
        let seconds = |at: Option<Time>| at.map(|at| at.since(now) / SECOND);
        Report {
            id: self.target.id.clone(),
            netns: self.target.netns.clone(),
            state: if self.target.settings.family.has_ipv4() { client.phase().as_str() } else { "off" }
                .to_owned(),
            address: lease.and_then(|lease| Cidr::new(lease.address.into(), lease.prefix)),
            gateway: lease.and_then(Lease::gateway),
            server: lease.map(|lease| lease.server),
            routes: lease.map(|lease| routes(lease, self.target.settings.priority)).unwrap_or_default(),
            dns: lease.map(dns).unwrap_or_default(),
            mtu: lease.and_then(Lease::mtu),
            renewal: seconds(lease.and_then(|lease| lease.timers).map(|timers| timers.renew)),
            expiry: seconds(lease.and_then(Lease::expiry)),
            ipv6: self.report_ipv6(),
        }
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

    pub(crate) fn log(&self, level: Level, event: &str, fields: &[(&str, &dyn Display)]) {
        let attachment = &self.target.id.attachment;
        let mut all: Vec<(&str, &dyn Display)> = vec![
            ("container", &attachment.container_id),
            ("network", &self.target.id.network),
            ("ifname", &attachment.ifname),
        ];
        all.extend(fields);
        log(level, event, &all);
    }
}

/// Uses a port that was opened.
fn with(port: Option<Rc<Port>>, work: impl FnOnce(&Port) -> std::io::Result<()>) -> std::io::Result<()> {
    port.map_or(Err(std::io::ErrorKind::NotConnected.into()), |port| work(&port))
}

/// Whether packets pass the link.
pub(crate) fn carries(link: &Link) -> bool {
    link.up && link.oper_state != OperState::Down
}

/// Differs between clients that begin at the same time.
pub(crate) fn seed() -> u64 {
    // The standard library seeds it from getrandom(2).
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn client_config(daemon: &Daemon, target: &Target, place: &Place, broadcast: bool) -> Config {
    // As the Go daemon forms it: its type is 0, "not a hardware address" (RFC 2132, section 9.14).
    let mut client_id = vec![0];
    client_id.extend(target.id.text().bytes());
    client_id.truncate(LONGEST_ID);
    let flags = &daemon.flags;
    let longest = flags.resend_max;
    let timing = Timing { first: flags.timeout, eager: (8 * SECOND).min(longest), longest };
    let provide = target.settings.provide.iter().map(|(number, value)| (*number, value.0.clone())).collect();
    Config { mac: place.mac, client_id, request: target.settings.request.clone(), provide, broadcast, timing }
}

fn dns(lease: &Lease) -> Dns {
    Dns {
        nameservers: lease.name_servers().iter().map(Ipv4Addr::to_string).collect(),
        domain: lease.domain().unwrap_or_default(),
        search: lease.search(),
        ..Dns::default()
    }
}

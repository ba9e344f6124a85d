//! The IPv4 side of an attachment: the state machine of DHCPv4, its sockets and what it decides.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::rc::Rc;

use dhcp_client::v4::{Action, Client, Config, Counters, Event, Lease, Listen, MessageType, Timing, Via};
use dhcp_client::{Drop, SECOND};
use tokio::sync::Notify;

use super::Daemon;
use super::attachment::Attachment;
use super::log::Level;
use super::on_link::OnLink;
use super::place::Place;
use super::port::{Input, Port};
use crate::protocol::Target;

/// The longest client identifier (option 61), its type byte included.
const LONGEST_ID: usize = 255;

/// What an attachment has for IPv4.
pub(crate) struct Ipv4 {
    pub(super) client: RefCell<Client>,
    port: RefCell<Option<Rc<Port>>>,
    /// What this daemon knows to be configured on the interface.
    pub(super) on_link: RefCell<Option<OnLink>>,
    /// Whether the daemon itself configures what comes: the plugin that made the interface did so once.
    pub(super) configures: Cell<bool>,
    /// The lease that is kept on disk: the latest one, unless it was refused.
    pub(super) kept: RefCell<Option<Lease>>,
    /// Wakes [`Ipv4::run`] after a change from outside.
    changed: Notify,
}

impl Ipv4 {
    /// With a client that has not begun.
    pub(crate) fn new(client: Client) -> Ipv4 {
        Ipv4 {
            kept: RefCell::new(client.lease().cloned()),
            client: RefCell::new(client),
            port: RefCell::default(),
            on_link: RefCell::default(),
            configures: Cell::default(),
            changed: Notify::new(),
        }
    }

    /// Has the daemon configure the interface, which has this already.
    pub(crate) fn configures_from_now_on(&self, on_link: Option<OnLink>) {
        self.on_link.replace(on_link);
        self.configures.set(true);
    }

    /// Whether there is a lease.
    pub(crate) fn is_bound(&self) -> bool {
        self.client.borrow().lease().is_some()
    }

    /// Whether the lease is of this address.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        self.client.borrow().lease().is_some_and(|lease| lease.address == address)
    }

    /// What was sent and received.
    pub(crate) fn counters(&self) -> Counters {
        self.client.borrow().counters()
    }

    /// Closes its socket.
    pub(crate) fn close(&self) {
        self.port.replace(None);
        self.changed.notify_one();
    }

    /// Takes in all that happens, until the attachment is over.
    pub(crate) async fn run(&self, of: &Attachment) {
        while of.ended().is_none() {
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
                // Before the input, which may be without end.
                () = of.daemon.clock.until(deadline) => match of.place.again() {
                    Ok(_) => self.step(of, Event::Timer),
                    Err(gone) => of.end(gone),
                },
                input = input => self.take(of, input),
            }
        }
    }

    fn take(&self, of: &Attachment, input: Input) {
        match input {
            Input::Packet(packet) => self.step(of, Event::Received(&packet)),
            Input::Link => match of.place.again() {
                Ok(found) => {
                    let had = of.carrier().is_some();
                    of.see_carrier(Some(&found.link));
                    if !had && of.carrier().is_some() {
                        self.step(of, Event::Carrier);
                    }
                }
                Err(gone) => of.end(gone),
            },
            Input::Failed(err) => match of.place.again() {
                // A link that was set down reports it once; the next message is tried all the same.
                Ok(_) => of.log(Level::Warning, "receive-failed", &[("why", &err)]),
                Err(gone) => of.end(gone),
            },
        }
    }

    /// Takes a step of the state machine, and does what it says.
    pub(crate) fn step(&self, of: &Attachment, event: Event<'_>) {
        if of.ended().is_some() {
            return;
        }
        self.act(of, event);
        let listen = self.client.borrow().listen();
        if let Err(err) = self.listen(of, listen) {
            of.log(Level::Warning, "listen-failed", &[("why", &err)]);
        }
        self.changed.notify_one();
        of.wake();
    }

    /// Releases the lease, and waits until the message was sent.
    pub(crate) async fn release(&self, of: &Attachment) {
        if of.ended().is_none() {
            // The socket stays open, unlike after another step.
            self.act(of, Event::Release);
        }
        let port = self.port.borrow().clone();
        if let Some(port) = port {
            port.flushed(&of.daemon.clock).await;
        }
    }

    fn act(&self, of: &Attachment, event: Event<'_>) {
        let actions = self.client.borrow_mut().step(event, of.daemon.clock.now());
        for action in actions {
            match action {
                Action::Send { kind, via, message } => self.send(of, kind, via, &message),
                Action::Use(lease) => self.use_lease(of, &lease),
                Action::Drop(lease, why) => self.drop_lease(of, &lease, why),
                Action::Refused(kind, why) => {
                    of.log(
                        Level::Warning,
                        "message-refused",
                        &[("type", &kind.name()), ("why", &why.as_str())],
                    );
                }
            }
        }
    }

    fn send(&self, of: &Attachment, kind: MessageType, via: Via, message: &[u8]) {
        let sent = match via {
            Via::Link => {
                self.listen(of, Listen::Link).and_then(|port| with(port, |port| port.broadcast(message)))
            }
            // The interface never got the address, or lost it: the server must know of it all the same.
            Via::Address { from, to } if kind == MessageType::Release && !of.has_address(from) => self
                .listen(of, Listen::Link)
                .and_then(|port| with(port, |port| port.send_as(from, to, message))),
            Via::Address { from, to } => self
                .listen(of, Listen::Address(from))
                .and_then(|port| with(port, |port| port.send_to(to, message))),
        };
        if let Err(err) = sent {
            of.log(Level::Warning, "send-failed", &[("type", &kind.name()), ("why", &err)]);
        }
    }

    /// Opens the socket for answers, unless it is open, and closes another one.
    fn listen(&self, of: &Attachment, listen: Listen) -> std::io::Result<Option<Rc<Port>>> {
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
        let found = || of.place.again().map_err(|gone| std::io::Error::other(gone.to_string()));
        let clock = &of.daemon.clock;
        let port = match listen {
            Listen::Nothing => return Ok(None),
            Listen::Link => Port::at_link(clock, &found()?.netns, of.place.index)?,
            Listen::Address(address) => Port::at_address(clock, &found()?.netns, &of.place.ifname, address)?,
        };
        let port = Rc::new(port);
        self.port.replace(Some(port.clone()));
        Ok(Some(port))
    }

    fn use_lease(&self, of: &Attachment, lease: &Lease) {
        let seconds =
            lease.expiry().map_or("infinite".to_owned(), |end| (end.since(lease.start) / SECOND).to_string());
        let fields: [(&str, &dyn Display); 3] =
            [("address", &lease.address), ("server", &lease.server), ("seconds", &seconds)];
        of.log(Level::Info, "lease", &fields);
        self.kept.replace(Some(lease.clone()));
        of.save();
        if let Err(err) = self.configure(of, lease) {
            of.log(Level::Error, "not-configured", &[("address", &lease.address), ("why", &err)]);
        }
    }

    fn drop_lease(&self, of: &Attachment, lease: &Lease, why: Drop) {
        of.log_drop(why, &lease.address, &lease.server);
        // After a release the plugin deletes the interface, and until then traffic may end in peace.
        if why == Drop::Released {
            return;
        }
        // One that has ended may still be free: it is requested again, also by the next daemon.
        if why != Drop::Expired {
            self.kept.replace(None);
            of.save();
        }
        if let Err(err) = self.unconfigure(of, lease) {
            of.log(Level::Error, "address-not-removed", &[("address", &lease.address), ("why", &err)]);
        }
    }
}

/// Uses a port that was opened.
fn with(port: Option<Rc<Port>>, work: impl FnOnce(&Port) -> std::io::Result<()>) -> std::io::Result<()> {
    port.map_or(Err(std::io::ErrorKind::NotConnected.into()), |port| work(&port))
}

/// What the client of an attachment is told of it.
pub(crate) fn client_config(daemon: &Daemon, target: &Target, place: &Place, broadcast: bool) -> Config {
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

//! The states of RFC 2131, section 4.4, figure 5.

use std::net::Ipv4Addr;

use super::lease::Lease;
use super::packet::{MessageType, Packet, code};
use super::step::{Action, Config, Counters, Event, Listen, Phase, Timing, Via};
use crate::timers::{AFTER_DECLINE, Backoff, LISTEN};
use crate::{Drop, Random, SECOND, Time};

/// How often a REQUEST is sent before the client begins anew (as systemd-networkd).
const REQUEST_TRIES: u32 = 5;
/// The number of REQUESTs for a remembered address before the client goes on without an answer.
const REBOOT_TRIES: u32 = 2;
/// How long another offer is kept back for that of the server that granted the earlier lease.
const PREFER_SERVER: u64 = SECOND;
/// The least wait between requests to renew a lease (RFC 2131, section 4.4.5); shorter leases
/// have a quarter of the time that there is.
const RENEW_WAIT: u64 = 60 * SECOND;
/// The longest message that is taken, in bytes: what fits into an Ethernet frame.
const MAX_MESSAGE: u16 = 1472;

/// A client. Cloning it clones its future: the same events give the same actions.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    random: Random,
    phase: Phase,
    xid: u32,
    /// When this exchange began, for the field `secs`.
    began: Time,
    /// When the request was sent whose answer is waited for: the lease counts from there.
    sent: Time,
    tries: u32,
    deadline: Option<Time>,
    /// Until when answers are listened for.
    listening: Option<Time>,
    /// The lease whose address is in use.
    lease: Option<Lease>,
    /// The address that is requested, and the server that granted it.
    wanted: Option<(Ipv4Addr, Option<Ipv4Addr>)>,
    /// The offer that was chosen, or is kept back.
    offer: Option<Lease>,
    /// Begins with INIT-REBOOT.
    confirm: bool,
    after_nak: Backoff,
    counters: Counters,
}

impl Client {
    /// A client without a lease. The seed determines its transaction ids and jitter.
    pub fn new(config: Config, seed: u64) -> Client {
        Client {
            config,
            random: Random::new(seed),
            phase: Phase::Init,
            xid: 0,
            began: Time(0),
            sent: Time(0),
            tries: 0,
            deadline: None,
            listening: None,
            lease: None,
            wanted: None,
            offer: None,
            confirm: false,
            after_nak: Backoff::new(),
            counters: Counters::default(),
        }
    }

    /// A client that goes on with a lease, as after a restart; with `confirm` it asks the
    /// servers first whether it still may (INIT-REBOOT).
    pub fn with_lease(config: Config, seed: u64, lease: Lease, confirm: bool) -> Client {
        let wanted = Some((lease.address, Some(lease.server)));
        Client { lease: Some(lease), wanted, confirm, ..Client::new(config, seed) }
    }

    /// A client that asks for an address of which nothing but itself is known (INIT-REBOOT).
    pub fn with_address(config: Config, seed: u64, address: Ipv4Addr) -> Client {
        Client { wanted: Some((address, None)), confirm: true, ..Client::new(config, seed) }
    }

    /// When [`Event::Timer`] is due; `None` where nothing is waited for.
    pub fn deadline(&self) -> Option<Time> {
        let listening = self.listening.filter(|_| self.listens_at() != Listen::Nothing);
        self.deadline.into_iter().chain(listening).min()
    }

    /// Where answers come in.
    pub fn listen(&self) -> Listen {
        if self.listening.is_some() { self.listens_at() } else { Listen::Nothing }
    }

    fn listens_at(&self) -> Listen {
        match (self.phase, &self.lease) {
            (Phase::Selecting | Phase::Requesting | Phase::Rebooting, _) => Listen::Link,
            (Phase::Renewing | Phase::Rebinding, Some(lease)) => Listen::Address(lease.address),
            _ => Listen::Nothing,
        }
    }

    /// The state.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The lease whose address may be used.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What was sent and received.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What does not change.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes in an event; `now` must not be earlier than in the step before.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        if !matches!(event, Event::Start) && self.expired(now) {
            self.drop_lease(Drop::Expired, &mut out);
            if !matches!(event, Event::Release) {
                self.discover(now, &mut out);
                return out;
            }
        }
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Received(packet) => self.received(packet, now, &mut out),
            Event::Timer => {
                self.listening = self.listening.filter(|end| *end > now);
                if self.deadline.is_some_and(|deadline| deadline <= now) {
                    self.timer(now, &mut out);
                }
            }
            Event::Carrier => {
                // What was sent without a carrier is lost: it is sent again at once, and the waits begin anew.
                if matches!(self.phase, Phase::Selecting | Phase::Rebooting) && self.offer.is_none() {
                    self.tries = 0;
                    self.deadline = Some(now);
                    self.timer(now, &mut out);
                }
            }
            Event::Renew => {
                if self.phase == Phase::Bound {
                    self.renew(Phase::Renewing, now, &mut out);
                }
            }
            Event::Conflict => self.conflict(now, &mut out),
            Event::Release => self.release(now, &mut out),
        }
        out
    }

    fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.phase != Phase::Init {
            return;
        }
        self.began = now;
        if self.expired(now) {
            // An address that was lost may still be free: that is what INIT-REBOOT asks.
            self.drop_lease(Drop::Expired, out);
            self.confirm = true;
        }
        if self.confirm {
            self.phase = Phase::Rebooting;
            self.new_exchange(now);
            self.send_reboot(now, out);
        } else if self.lease.is_some() {
            self.bound(now);
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.timer(now, out);
            }
        } else {
            self.discover(now, out);
        }
    }

    fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Selecting => match self.offer.take() {
                Some(offer) => self.request(offer, now, out),
                None => self.send_discover(now, out),
            },
            Phase::Requesting if self.tries < REQUEST_TRIES => self.send_request(now, out),
            Phase::Requesting => self.discover(now, out),
            Phase::Rebooting if self.tries < REBOOT_TRIES => self.send_reboot(now, out),
            // RFC 2131, section 3.2: without an answer the lease is used to its end.
            Phase::Rebooting if self.lease.is_some() => {
                out.extend(self.lease.clone().map(Action::Use));
                self.bound(now);
            }
            Phase::Rebooting | Phase::Waiting => self.discover(now, out),
            Phase::Bound | Phase::Renewing | Phase::Rebinding => {
                let rebind = self.lease.as_ref().and_then(|lease| lease.timers).map(|timers| timers.rebind);
                let late = rebind.is_some_and(|rebind| rebind <= now);
                self.renew(if late { Phase::Rebinding } else { Phase::Renewing }, now, out);
            }
            Phase::Init | Phase::Stopped => self.deadline = None,
        }
    }

    fn received(&mut self, packet: &Packet, now: Time, out: &mut Vec<Action>) {
        let expected = packet.reply && packet.xid == self.xid && packet.chaddr == self.config.mac;
        let Some(kind) = packet.kind().filter(|_| expected) else { return };
        match (self.phase, kind) {
            (Phase::Selecting, MessageType::Offer) => match Lease::read(packet, now) {
                Ok(offer) => self.offered(offer, now, out),
                Err(why) => out.push(Action::Refused(kind, why)),
            },
            (
                Phase::Requesting | Phase::Rebooting | Phase::Renewing | Phase::Rebinding,
                MessageType::Ack | MessageType::Nak,
            ) if !self.is_of_server(packet) => {}
            (Phase::Requesting | Phase::Rebooting | Phase::Renewing | Phase::Rebinding, MessageType::Ack) => {
                match Lease::read(packet, self.sent) {
                    // An answer that took longer than the lease lasts grants nothing.
                    Ok(lease) if lease.expiry().is_some_and(|expiry| expiry <= now) => {}
                    Ok(lease) => self.granted(lease, now, out),
                    Err(why) => out.push(Action::Refused(kind, why)),
                }
            }
            (Phase::Requesting | Phase::Rebooting | Phase::Renewing | Phase::Rebinding, MessageType::Nak) => {
                self.refused(now, out)
            }
            _ => {}
        }
    }

    /// Whether the message comes from the server that was addressed; while rebooting and rebinding
    /// that is every server.
    fn is_of_server(&self, packet: &Packet) -> bool {
        let addressed = match self.phase {
            Phase::Requesting => self.offer.as_ref(),
            Phase::Renewing => self.lease.as_ref(),
            _ => None,
        };
        addressed.is_none_or(|it| packet.options.address(code::SERVER_ID) == Some(it.server))
    }

    fn offered(&mut self, offer: Lease, now: Time, out: &mut Vec<Action>) {
        self.counters.offers += 1;
        let preferred = self.wanted.and_then(|(_, server)| server);
        if preferred.is_none_or(|server| server == offer.server) {
            self.request(offer, now, out);
        } else if self.offer.is_none() {
            self.offer = Some(offer);
            self.deadline = Some(now.after(PREFER_SERVER));
        }
    }

    fn granted(&mut self, lease: Lease, now: Time, out: &mut Vec<Action>) {
        self.offer = None;
        self.wanted = Some((lease.address, Some(lease.server)));
        self.after_nak = Backoff::new();
        self.counters = Counters::default();
        self.lease = Some(lease.clone());
        out.push(Action::Use(lease));
        self.bound(now);
    }

    fn refused(&mut self, now: Time, out: &mut Vec<Action>) {
        self.counters.naks += 1;
        self.drop_lease(Drop::Nak, out);
        self.wanted = None;
        let wait = self.after_nak.next();
        self.wait(wait, now);
    }

    fn conflict(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(lease) = self.lease.clone() else { return };
        self.new_exchange(now);
        let mut packet = Packet::request(MessageType::Decline, self.xid, self.config.mac);
        self.identify(&mut packet, &lease);
        packet.options.set(code::REQUESTED_ADDRESS, lease.address.octets());
        out.push(Action::Send { kind: MessageType::Decline, via: Via::Link, message: packet.to_bytes() });
        self.drop_lease(Drop::Conflict, out);
        self.wanted = None;
        self.wait(AFTER_DECLINE, now);
    }

    fn release(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(lease) = self.lease.clone() {
            self.new_exchange(now);
            let mut packet = Packet::request(MessageType::Release, self.xid, self.config.mac);
            self.identify(&mut packet, &lease);
            packet.ciaddr = lease.address;
            let via = Via::Address { from: lease.address, to: lease.server };
            // It is not acknowledged: a second one for where the first is lost.
            for _ in 0..2 {
                out.push(Action::Send { kind: MessageType::Release, via, message: packet.to_bytes() });
            }
        }
        self.drop_lease(Drop::Released, out);
        self.phase = Phase::Stopped;
        self.deadline = None;
    }

    /// Sets who sends a RELEASE or DECLINE, and to which server.
    fn identify(&self, packet: &mut Packet, lease: &Lease) {
        packet.options.set(code::CLIENT_ID, self.config.client_id.clone());
        for (number, value) in self.config.provide.iter().filter(|(number, _)| *number == code::CLIENT_ID) {
            packet.options.set(*number, value.clone());
        }
        packet.options.set(code::SERVER_ID, lease.server.octets());
    }

    fn expired(&self, now: Time) -> bool {
        self.lease.as_ref().and_then(Lease::expiry).is_some_and(|expiry| expiry <= now)
    }

    fn drop_lease(&mut self, why: Drop, out: &mut Vec<Action>) {
        out.extend(self.lease.take().map(|lease| Action::Drop(lease, why)));
    }

    fn wait(&mut self, milliseconds: u64, now: Time) {
        self.phase = Phase::Waiting;
        self.offer = None;
        self.deadline = Some(now.after(milliseconds));
    }

    fn new_exchange(&mut self, now: Time) {
        self.xid = self.random.number() as u32;
        self.began = now;
        self.tries = 0;
    }

    /// The lease is used until it has to be renewed.
    fn bound(&mut self, now: Time) {
        self.phase = Phase::Bound;
        let timers = self.lease.as_ref().and_then(|lease| lease.timers);
        self.deadline = timers.map(|timers| timers.first_renewal(now, &mut self.random));
    }

    fn discover(&mut self, now: Time, out: &mut Vec<Action>) {
        self.phase = Phase::Selecting;
        self.offer = None;
        self.new_exchange(now);
        self.send_discover(now, out);
    }

    fn send_discover(&mut self, now: Time, out: &mut Vec<Action>) {
        self.counters.discovers += 1;
        let mut packet = self.packet(MessageType::Discover, now);
        if let Some((address, _)) = self.wanted {
            packet.options.set(code::REQUESTED_ADDRESS, address.octets());
        }
        self.send(&packet, Via::Link, now, out);
        self.deadline = Some(self.next_try(now));
    }

    fn request(&mut self, offer: Lease, now: Time, out: &mut Vec<Action>) {
        self.phase = Phase::Requesting;
        self.offer = Some(offer);
        self.tries = 0;
        self.sent = now;
        self.send_request(now, out);
    }

    fn send_request(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(offer) = self.offer.clone() else { return self.discover(now, out) };
        self.counters.requests += 1;
        let mut packet = self.packet(MessageType::Request, now);
        packet.options.set(code::REQUESTED_ADDRESS, offer.address.octets());
        packet.options.set(code::SERVER_ID, offer.server.octets());
        self.send(&packet, Via::Link, now, out);
        self.deadline = Some(self.next_try(now));
    }

    fn send_reboot(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some((address, _)) = self.wanted else { return self.discover(now, out) };
        if self.tries == 0 {
            self.sent = now;
        }
        self.counters.requests += 1;
        let mut packet = self.packet(MessageType::Request, now);
        packet.options.set(code::REQUESTED_ADDRESS, address.octets());
        self.send(&packet, Via::Link, now, out);
        let next = self.next_try(now);
        self.deadline =
            Some(self.lease.as_ref().and_then(Lease::expiry).map_or(next, |expiry| expiry.min(next)));
    }

    /// Asks for more time: the lease's server while renewing, every server while rebinding.
    fn renew(&mut self, phase: Phase, now: Time, out: &mut Vec<Action>) {
        let Some(lease) = self.lease.clone() else { return self.discover(now, out) };
        if self.phase != phase {
            self.began = now;
        }
        self.phase = phase;
        // Each request has an id of its own, as the lease counts from the one that is answered.
        self.xid = self.random.number() as u32;
        self.sent = now;
        self.counters.requests += 1;
        let mut packet = self.packet(MessageType::Request, now);
        packet.ciaddr = lease.address;
        let to = if phase == Phase::Renewing { lease.server } else { Ipv4Addr::BROADCAST };
        // It has its address, and answers come there.
        packet.broadcast = false;
        self.send(&packet, Via::Address { from: lease.address, to }, now, out);
        let Some(timers) = lease.timers else {
            // A user requested it; without an answer all stays as it is.
            self.deadline = Some(now.after(RENEW_WAIT));
            self.phase = Phase::Renewing;
            return;
        };
        let (begin, end) = match phase {
            Phase::Renewing => (timers.renew, timers.rebind),
            _ => (timers.rebind, timers.expiry),
        };
        let least = RENEW_WAIT.min(end.since(begin) / 4).max(1);
        let next = now.after((end.since(now) / 2).max(least));
        self.deadline = Some(next.min(end).max(now.after(1)));
    }

    /// Twice as long as before, with jitter.
    fn next_try(&mut self, now: Time) -> Time {
        let Timing { first, eager, longest } = self.config.timing;
        let most = if now.since(self.began) < 60 * SECOND { eager.min(longest) } else { longest };
        let wait = first.saturating_mul(1 << self.tries.min(16)).min(most).max(1);
        self.tries += 1;
        now.after(self.random.around(wait, (wait / 10).min(SECOND)))
    }

    /// A message with what every DISCOVER and REQUEST says.
    fn packet(&self, kind: MessageType, now: Time) -> Packet {
        let config = &self.config;
        let mut packet = Packet::request(kind, self.xid, config.mac);
        packet.secs = u16::try_from(now.since(self.began) / SECOND).unwrap_or(u16::MAX);
        packet.broadcast = config.broadcast;
        packet.options.set(code::CLIENT_ID, config.client_id.clone());
        packet.options.set(code::MAX_MESSAGE_SIZE, MAX_MESSAGE.to_be_bytes());
        if !config.request.is_empty() {
            packet.options.set(code::PARAMETER_REQUEST_LIST, config.request.clone());
        }
        for (number, value) in &config.provide {
            packet.options.set(*number, value.clone());
        }
        packet
    }

    /// Sends a message, and listens for its answer.
    fn send(&mut self, packet: &Packet, via: Via, now: Time, out: &mut Vec<Action>) {
        self.listening = Some(now.after(LISTEN));
        let kind = packet.kind().unwrap_or(MessageType::Request);
        out.push(Action::Send { kind, via, message: packet.to_bytes() });
    }
}

#[cfg(test)]
mod tests;

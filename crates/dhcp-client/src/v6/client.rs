//! The states of a client of DHCPv6 (RFC 8415, section 18.2).

use std::net::Ipv6Addr;

use super::lease::{Lease, Refused};
use super::packet::{IaAddress, IaNa, Message, MessageType, Options, code, status};
use super::retransmit::{self, Retransmission};
use super::step::{Action, Config, Counters, Event, Phase};
use crate::timers::{AFTER_DECLINE, Backoff, LISTEN};
use crate::{Drop, Random, SECOND, Time};

/// The preference of a server whose ADVERTISE is taken at once (RFC 8415, section 18.2.1).
const TAKEN_AT_ONCE: u8 = 255;
/// The limits of the value of SOL_MAX_RT in seconds (RFC 8415, section 21.24).
const SOL_MAX_RT: std::ops::RangeInclusive<u32> = 60..=86400;

/// A client. Cloning it clones its future: the same events give the same actions.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    random: Random,
    phase: Phase,
    xid: u32,
    repeated: Retransmission,
    /// When the exchange began whose answer is waited for: the lease counts from its latest message.
    sent: Time,
    /// When the message is sent again, or what else the phase waits for.
    next: Option<Time>,
    /// Until when answers are listened for.
    listening: Option<Time>,
    /// The lease whose address is in use.
    lease: Option<Lease>,
    /// The best of the ADVERTISE messages, with its preference; or what is requested.
    offer: Option<(u8, Lease)>,
    /// The lease that is declined or released.
    leaving: Option<Lease>,
    /// The address and server that the client would like to have again.
    wanted: Option<(Ipv6Addr, Option<Vec<u8>>)>,
    confirm: bool,
    after_refusal: Backoff,
    /// The longest wait between SOLICIT messages, in milliseconds.
    solicit_longest: u64,
    counters: Counters,
}

impl Client {
    /// A client without a lease. The seed determines its transaction IDs and jitter.
    pub fn new(config: Config, seed: u64) -> Client {
        Client {
            config,
            random: Random::new(seed),
            phase: Phase::Init,
            xid: 0,
            repeated: Retransmission::new(retransmit::SOLICIT, Time(0)),
            sent: Time(0),
            next: None,
            listening: None,
            lease: None,
            offer: None,
            leaving: None,
            wanted: None,
            confirm: false,
            after_refusal: Backoff::new(),
            solicit_longest: retransmit::SOLICIT.longest,
            counters: Counters::default(),
        }
    }

    /// A client that goes on with a lease, as after a restart; with `confirm` it asks the servers
    /// first whether the address still fits to the link (CONFIRM).
    pub fn with_lease(config: Config, seed: u64, lease: Lease, confirm: bool) -> Client {
        let wanted = Some((lease.address, Some(lease.server.clone())));
        Client { lease: Some(lease), wanted, confirm, ..Client::new(config, seed) }
    }

    /// A client that asks for an address of which nothing but itself is known.
    pub fn with_address(config: Config, seed: u64, address: Ipv6Addr) -> Client {
        Client { wanted: Some((address, None)), ..Client::new(config, seed) }
    }

    /// When [`Event::Timer`] is due; `None` where nothing is waited for.
    pub fn deadline(&self) -> Option<Time> {
        [self.next, self.listening, self.lease.as_ref().and_then(Lease::expiry)].into_iter().flatten().min()
    }

    /// Whether answers are expected.
    pub fn listens(&self) -> bool {
        self.listening.is_some()
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

    /// Takes in an event; `now` must not be earlier than in the step before.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        if !matches!(event, Event::Start) && self.expired(now) {
            self.drop_lease(Drop::Expired, &mut out);
            if !matches!(event, Event::Release) {
                self.begin(Phase::Soliciting, now, &mut out);
                return out;
            }
        }
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Received(message) => self.received(message, now, &mut out),
            Event::Timer => self.timer(now, &mut out),
            Event::Carrier => {
                // What was sent without a carrier is lost: it is sent again at once, and the waits begin anew.
                if matches!(self.phase, Phase::Soliciting | Phase::Confirming) && self.offer.is_none() {
                    self.begin(self.phase, now, &mut out);
                }
            }
            Event::Renew => {
                if self.phase == Phase::Bound {
                    self.begin(Phase::Renewing, now, &mut out);
                }
            }
            Event::Conflict => {
                if let Some(lease) = self.lease.clone() {
                    self.drop_lease(Drop::Conflict, &mut out);
                    self.leave(Phase::Declining, lease, now, &mut out);
                }
            }
            Event::Release => match self.lease.clone() {
                Some(lease) => {
                    self.drop_lease(Drop::Released, &mut out);
                    self.leave(Phase::Releasing, lease, now, &mut out);
                }
                None => self.stop(),
            },
        }
        out
    }

    fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Init | Phase::Stopped) {
            return;
        }
        if self.expired(now) {
            self.drop_lease(Drop::Expired, out);
        }
        match &self.lease {
            None => self.begin(Phase::Soliciting, now, out),
            Some(_) if self.confirm => self.begin(Phase::Confirming, now, out),
            Some(_) => {
                self.bound(now);
                self.timer(now, out);
            }
        }
    }

    fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.listening.is_some_and(|end| end <= now) {
            self.listening = None;
        }
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let rebind = self.lease.as_ref().and_then(|lease| lease.timers).map(|timers| timers.rebind);
        let late = rebind.is_some_and(|rebind| rebind <= now);
        match self.phase {
            Phase::Soliciting if self.offer.is_some() => self.begin(Phase::Requesting, now, out),
            Phase::Bound | Phase::Renewing if late => self.begin(Phase::Rebinding, now, out),
            Phase::Bound => self.begin(Phase::Renewing, now, out),
            Phase::Waiting => self.begin(Phase::Soliciting, now, out),
            _ if !self.repeated.is_over(now) => self.send(now, out),
            Phase::Requesting => self.begin(Phase::Soliciting, now, out),
            // RFC 8415, section 18.2.3: without an answer the address is used to its end.
            Phase::Confirming => self.confirmed(now, out),
            Phase::Declining => self.wait(AFTER_DECLINE, now),
            _ => self.stop(),
        }
    }

    fn received(&mut self, message: &Message, now: Time, out: &mut Vec<Action>) {
        let options = &message.options;
        let ours = message.xid == self.xid && options.get(code::CLIENT_ID) == Some(&self.config.duid);
        let Some((request, _)) = self.phase.message().filter(|_| ours) else { return };
        let Some(server) = options.get(code::SERVER_ID) else { return };
        let answer =
            if request == MessageType::Solicit { MessageType::Advertise } else { MessageType::Reply };
        if message.kind != answer || self.addressed().is_some_and(|it| it != server) {
            return;
        }
        match self.phase {
            Phase::Declining => return self.wait(AFTER_DECLINE, now),
            Phase::Releasing => return self.stop(),
            Phase::Confirming => {
                return match options.status() {
                    status::SUCCESS => self.confirmed(now, out),
                    status::NOT_ON_LINK => self.refused(now, out),
                    _ => {}
                };
            }
            _ => {}
        }
        self.learn_solicit_wait(options);
        let held = self.lease.as_ref().map(|lease| lease.address);
        let lease = Lease::read(message, self.config.iaid, self.sent, held);
        match (lease, self.phase) {
            (Ok(offer), Phase::Soliciting) => self.advertised(offer, options, now, out),
            // An answer that took longer than the lease lasts grants nothing.
            (Ok(lease), _) if lease.expiry().is_some_and(|expiry| expiry <= now) => {}
            (Ok(lease), _) => self.granted(lease, now, out),
            (Err(why), phase) => {
                self.counters.refusals += 1;
                out.push(Action::Refused(message.kind, why));
                match why {
                    Refused::Status(status::NO_BINDING)
                        if matches!(phase, Phase::Renewing | Phase::Rebinding) =>
                    {
                        // RFC 8415, section 18.2.10.1: the server may give the address all the same.
                        let lease = self.lease.clone();
                        self.offer = lease.map(|lease| (0, Lease { server: server.to_vec(), ..lease }));
                        self.begin(Phase::Requesting, now, out);
                    }
                    Refused::Status(status::NOT_ON_LINK | status::NO_BINDING) | Refused::Withdrawn
                        if phase != Phase::Soliciting =>
                    {
                        self.refused(now, out);
                    }
                    Refused::Status(status::NO_ADDRS_AVAIL) if phase == Phase::Requesting => {
                        self.refused(now, out)
                    }
                    // Another server may answer, and the message is sent again.
                    _ => {}
                }
            }
        }
    }

    /// The server that the message of this phase is for; `None` for all.
    fn addressed(&self) -> Option<&[u8]> {
        let lease = match self.phase {
            Phase::Requesting => self.offer.as_ref().map(|(_, offer)| offer),
            Phase::Renewing => self.lease.as_ref(),
            Phase::Declining | Phase::Releasing => self.leaving.as_ref(),
            _ => None,
        };
        lease.map(|lease| lease.server.as_slice())
    }

    /// RFC 8415, section 18.2.9: also a server without addresses may say how often it wants to be asked.
    fn learn_solicit_wait(&mut self, options: &Options) {
        let value = options.get(code::SOL_MAX_RT).and_then(|value| <[u8; 4]>::try_from(value).ok());
        if let Some(seconds) = value.map(u32::from_be_bytes).filter(|seconds| SOL_MAX_RT.contains(seconds)) {
            self.solicit_longest = u64::from(seconds) * SECOND;
        }
    }

    fn advertised(&mut self, offer: Lease, options: &Options, now: Time, out: &mut Vec<Action>) {
        self.counters.advertises += 1;
        let preference = match options.get(code::PREFERENCE) {
            Some([preference]) => *preference,
            _ => 0,
        };
        let known =
            |server: &[u8]| self.wanted.as_ref().is_some_and(|(_, wanted)| wanted.as_deref() == Some(server));
        let rank = |preference: u8, offer: &Lease| (preference, known(&offer.server));
        let better =
            self.offer.as_ref().is_none_or(|(other, best)| rank(preference, &offer) > rank(*other, best));
        if better {
            self.offer = Some((preference, offer));
        }
        // Others are waited for up to the end of the first wait.
        if preference == TAKEN_AT_ONCE || !self.repeated.is_first_wait() {
            self.begin(Phase::Requesting, now, out);
        }
    }

    fn granted(&mut self, lease: Lease, now: Time, out: &mut Vec<Action>) {
        self.wanted = Some((lease.address, Some(lease.server.clone())));
        self.after_refusal = Backoff::new();
        self.counters = Counters::default();
        self.lease = Some(lease.clone());
        out.push(Action::Use(lease));
        self.bound(now);
    }

    fn confirmed(&mut self, now: Time, out: &mut Vec<Action>) {
        out.extend(self.lease.clone().map(Action::Use));
        self.bound(now);
    }

    /// The lease is used until it has to be renewed.
    fn bound(&mut self, now: Time) {
        self.rest(Phase::Bound);
        let timers = self.lease.as_ref().and_then(|lease| lease.timers);
        self.next = timers.map(|timers| timers.first_renewal(now, &mut self.random));
    }

    fn refused(&mut self, now: Time, out: &mut Vec<Action>) {
        self.drop_lease(Drop::Nak, out);
        let wait = self.after_refusal.next();
        self.wait(wait, now);
    }

    fn leave(&mut self, phase: Phase, lease: Lease, now: Time, out: &mut Vec<Action>) {
        self.leaving = Some(lease);
        self.begin(phase, now, out);
    }

    fn wait(&mut self, milliseconds: u64, now: Time) {
        self.rest(Phase::Waiting);
        self.wanted = None;
        self.next = Some(now.after(milliseconds));
    }

    fn stop(&mut self) {
        self.rest(Phase::Stopped);
    }

    /// Ends an exchange.
    fn rest(&mut self, phase: Phase) {
        self.phase = phase;
        self.offer = None;
        self.leaving = None;
        self.listening = None;
        self.next = None;
    }

    fn expired(&self, now: Time) -> bool {
        self.lease.as_ref().and_then(Lease::expiry).is_some_and(|expiry| expiry <= now)
    }

    fn drop_lease(&mut self, why: Drop, out: &mut Vec<Action>) {
        out.extend(self.lease.take().map(|lease| Action::Drop(lease, why)));
    }

    /// Begins an exchange of messages.
    fn begin(&mut self, phase: Phase, now: Time, out: &mut Vec<Action>) {
        let Some((_, mut parameters)) = phase.message() else { return };
        if phase == Phase::Soliciting {
            self.offer = None;
            parameters.longest = self.solicit_longest;
        }
        self.phase = phase;
        self.xid = self.random.number() as u32 & 0x00ff_ffff;
        self.repeated = Retransmission::new(parameters, now);
        self.sent = now;
        self.send(now, out);
    }

    fn send(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some((kind, _)) = self.phase.message() else { return };
        match kind {
            MessageType::Solicit => self.counters.solicits += 1,
            MessageType::Request => self.counters.requests += 1,
            _ => {}
        }
        out.push(Action::Send { kind, message: self.message(kind, now).to_bytes() });
        let next = self.repeated.send(now, kind == MessageType::Solicit, &mut self.random);
        let rebind = self.lease.as_ref().and_then(|lease| lease.timers).map(|timers| timers.rebind);
        let end = rebind.filter(|rebind| self.phase == Phase::Renewing && *rebind > now);
        self.next = Some(end.map_or(next, |end| end.min(next)));
        self.listening = Some(now.after(LISTEN));
    }

    /// The message of the present phase.
    fn message(&self, kind: MessageType, now: Time) -> Message {
        let mut options = Options::default();
        options.push(code::CLIENT_ID, self.config.duid.clone());
        if let Some(server) = self.addressed() {
            options.push(code::SERVER_ID, server);
        }
        options.push(code::ELAPSED_TIME, self.repeated.elapsed(now).to_be_bytes());
        use MessageType::*;
        if matches!(kind, Solicit | Request | Renew | Rebind) {
            let requested = self.config.request.iter().chain([&code::SOL_MAX_RT]);
            options.push(
                code::OPTION_REQUEST,
                requested.flat_map(|code| code.to_be_bytes()).collect::<Vec<u8>>(),
            );
        }
        let address = match kind {
            Solicit => self.wanted.as_ref().map(|(address, _)| *address),
            Request => self.offer.as_ref().map(|(_, offer)| offer.address),
            Decline | Release => self.leaving.as_ref().map(|lease| lease.address),
            _ => self.lease.as_ref().map(|lease| lease.address),
        };
        let mut association = IaNa { iaid: self.config.iaid, ..IaNa::default() };
        // RFC 8415, section 18.2.1 and others: lifetimes are the server's to give.
        if let Some(address) = address {
            let address = IaAddress { address, preferred: 0, valid: 0, options: Options::default() };
            association.options.push(code::IA_ADDRESS, address.to_bytes());
        }
        options.push(code::IA_NA, association.to_bytes());
        Message { kind, xid: self.xid, options }
    }
}

#[cfg(test)]
mod tests;

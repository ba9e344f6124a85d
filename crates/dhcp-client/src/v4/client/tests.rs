mod properties;

use super::*;
use crate::v4::Refused;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

fn config() -> Config {
    Config {
        mac: MAC,
        client_id: b"\0c/n/eth0".to_vec(),
        request: vec![1, 3],
        provide: Vec::new(),
        broadcast: false,
        timing: Timing::default(),
    }
}

/// An answer of a server to a message of the client.
fn answer(kind: MessageType, request: &Packet, server: Ipv4Addr, address: Ipv4Addr, lease: u32) -> Packet {
    let mut packet = Packet::request(kind, request.xid, MAC);
    packet.reply = true;
    packet.options.set(code::SERVER_ID, server.octets());
    if kind != MessageType::Nak {
        packet.yiaddr = address;
        packet.options.set(code::LEASE_TIME, lease.to_be_bytes());
        packet.options.set(code::SUBNET_MASK, [255, 255, 255, 0]);
    }
    packet
}

/// A client and what it did last.
struct Run {
    client: Client,
    now: Time,
    sent: Vec<(MessageType, Via, Packet)>,
    done: Vec<Action>,
}

impl Run {
    fn new(client: Client) -> Run {
        let mut run = Run { client, now: Time(0), sent: Vec::new(), done: Vec::new() };
        run.step(Event::Start);
        run
    }

    fn step(&mut self, event: Event<'_>) {
        let actions = self.client.step(event, self.now);
        self.sent.clear();
        self.done.clear();
        for action in actions {
            match action {
                Action::Send { kind, via, message } => {
                    self.sent.push((kind, via, Packet::parse(&message).unwrap()));
                }
                other => self.done.push(other),
            }
        }
    }

    /// Goes on to the next deadline at which more happens than that nothing is listened for any more.
    fn tick(&mut self) {
        let before = self.client.phase();
        loop {
            self.now = self.client.deadline().expect("something is waited for");
            self.step(Event::Timer);
            if self.client.phase() != before || self.sent.len() + self.done.len() > 0 {
                return;
            }
        }
    }

    #[track_caller]
    fn message(&self) -> Packet {
        let [(_, _, packet)] = &self.sent[..] else { panic!("sent {:?}", self.sent) };
        packet.clone()
    }

    fn hears(&mut self, kind: MessageType, server: Ipv4Addr, lease: u32) {
        let packet = answer(kind, &self.message(), server, ADDRESS, lease);
        self.step(Event::Received(&packet));
    }

    /// A client with a lease of so many seconds.
    fn bound(lease: u32) -> Run {
        let mut run = Run::new(Client::new(config(), 1));
        run.hears(MessageType::Offer, SERVER, lease);
        run.hears(MessageType::Ack, SERVER, lease);
        assert_eq!(run.client.phase(), Phase::Bound);
        run
    }
}

#[test]
fn a_lease_is_obtained_by_four_messages() {
    let mut run = Run::new(Client::new(config(), 1));
    let discover = run.message();
    assert_eq!(run.sent[0].1, Via::Link);
    assert_eq!(discover.options.get(code::PARAMETER_REQUEST_LIST), Some(&[1, 3][..]));
    assert_eq!(discover.options.get(code::CLIENT_ID), Some(&b"\0c/n/eth0"[..]));
    run.hears(MessageType::Offer, SERVER, 100);
    let request = run.message();
    assert_eq!((request.xid, request.ciaddr), (discover.xid, Ipv4Addr::UNSPECIFIED));
    assert_eq!(request.options.address(code::REQUESTED_ADDRESS), Some(ADDRESS));
    assert_eq!(request.options.address(code::SERVER_ID), Some(SERVER));
    run.hears(MessageType::Ack, SERVER, 100);
    assert!(matches!(&run.done[..], [Action::Use(lease)] if lease.address == ADDRESS && lease.prefix == 24));
    assert_eq!(run.client.listen(), Listen::Nothing);
}

#[test]
fn renewal_is_unicast_and_rebinding_goes_to_everybody() {
    let mut run = Run::bound(1000);
    run.tick();
    assert!((495..=505).contains(&(run.now.0 / SECOND)), "{:?}", run.now);
    let request = run.message();
    assert_eq!(run.sent[0].1, Via::Address { from: ADDRESS, to: SERVER });
    assert_eq!(request.ciaddr, ADDRESS);
    for absent in [code::SERVER_ID, code::REQUESTED_ADDRESS] {
        assert_eq!(request.options.get(absent), None, "RFC 2131, section 4.3.2");
    }
    assert_eq!(run.client.listen(), Listen::Address(ADDRESS));
    let mut renewing = 0;
    while run.client.phase() == Phase::Renewing {
        renewing += 1;
        run.tick();
    }
    assert!((2..8).contains(&renewing), "{renewing} requests");
    assert_eq!((run.client.phase(), run.now), (Phase::Rebinding, Time(875 * SECOND)));
    assert_eq!(run.sent[0].1, Via::Address { from: ADDRESS, to: Ipv4Addr::BROADCAST });
    // Another server takes over.
    run.hears(MessageType::Ack, OTHER, 1000);
    assert_eq!(run.client.lease().unwrap().server, OTHER);
    assert_eq!(run.client.lease().unwrap().start, run.now);
}

#[test]
fn nothing_is_listened_for_while_the_next_message_is_far_away() {
    let mut run = Run::bound(100_000);
    run.tick();
    assert_eq!(run.client.listen(), Listen::Address(ADDRESS));
    let sent = run.now;
    run.now = run.client.deadline().unwrap();
    assert_eq!(run.now, sent.after(60 * SECOND));
    run.step(Event::Timer);
    assert_eq!((run.client.listen(), run.sent.len()), (Listen::Nothing, 0));
    run.tick();
    assert_eq!((run.client.listen(), run.sent.len()), (Listen::Address(ADDRESS), 1));
}

#[test]
fn at_expiry_the_address_is_dropped_and_asked_for_again() {
    let mut run = Run::bound(1000);
    while run.client.phase() != Phase::Selecting {
        run.tick();
    }
    assert_eq!(run.now, Time(1000 * SECOND));
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]));
    assert_eq!(run.message().options.address(code::REQUESTED_ADDRESS), Some(ADDRESS));
}

#[test]
fn an_expired_lease_is_dropped_whatever_happens_first() {
    let stray =
        answer(MessageType::Offer, &Packet::request(MessageType::Discover, 1, MAC), OTHER, ADDRESS, 9);
    for event in [Event::Received(&stray), Event::Carrier, Event::Renew, Event::Conflict, Event::Release] {
        let (name, released) = (format!("{event:?}"), matches!(event, Event::Release));
        let mut run = Run::bound(1000);
        run.now = Time(1000 * SECOND);
        run.step(event);
        assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]), "{name}: {:?}", run.done);
        assert_eq!(run.client.phase(), if released { Phase::Stopped } else { Phase::Selecting }, "{name}");
        // Nothing is declined or released that is not held any more.
        let kinds: Vec<_> = run.sent.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, if released { vec![] } else { vec![MessageType::Discover] }, "{name}");
    }
}

#[test]
fn a_client_that_slept_past_t2_rebinds_and_past_expiry_begins_anew() {
    let mut run = Run::bound(1000);
    run.now = Time(900 * SECOND);
    run.step(Event::Timer);
    assert_eq!(run.client.phase(), Phase::Rebinding);
    let mut run = Run::bound(1000);
    run.now = Time(2000 * SECOND);
    run.step(Event::Timer);
    assert_eq!(run.client.phase(), Phase::Selecting);
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]));
}

#[test]
fn a_nak_counts_where_it_comes_from_the_server_and_waits_grow() {
    let mut run = Run::new(Client::new(config(), 1));
    let mut waits = Vec::new();
    for _ in 0..14 {
        run.hears(MessageType::Offer, SERVER, 100);
        let request = run.message();
        let wrong = answer(MessageType::Nak, &request, OTHER, ADDRESS, 0);
        run.step(Event::Received(&wrong));
        assert_eq!(run.client.phase(), Phase::Requesting);
        let right = answer(MessageType::Nak, &request, SERVER, ADDRESS, 0);
        run.step(Event::Received(&right));
        assert_eq!(run.client.phase(), Phase::Waiting);
        waits.push(run.client.deadline().unwrap().since(run.now) / SECOND);
        run.tick();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800]);
}

#[test]
fn after_a_restart_the_address_is_confirmed() {
    let lease = Run::bound(1000).client.lease().unwrap().clone();
    let mut run = Run::new(Client::with_lease(config(), 2, lease.clone(), true));
    let request = run.message();
    assert_eq!((run.client.phase(), run.sent[0].1), (Phase::Rebooting, Via::Link));
    assert_eq!((request.ciaddr, request.options.get(code::SERVER_ID)), (Ipv4Addr::UNSPECIFIED, None));
    assert_eq!(request.options.address(code::REQUESTED_ADDRESS), Some(ADDRESS));
    run.hears(MessageType::Ack, OTHER, 50);
    assert_eq!(run.client.phase(), Phase::Bound);
    // Without an answer the lease is used to its end.
    let mut run = Run::new(Client::with_lease(config(), 2, lease.clone(), true));
    while run.client.phase() == Phase::Rebooting {
        run.tick();
    }
    assert_eq!((run.client.phase(), run.client.lease()), (Phase::Bound, Some(&lease)));
    // One that has ended meanwhile is asked for, and not used before the answer.
    let mut run = Run::new(Client::new(config(), 0));
    run.client = Client::with_lease(config(), 2, lease, false);
    run.now = Time(2000 * SECOND);
    run.step(Event::Start);
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]));
    assert_eq!((run.client.phase(), run.client.lease()), (Phase::Rebooting, None));
}

#[test]
fn the_server_of_the_earlier_lease_is_preferred_for_a_second() {
    let again = |first, second: Option<Ipv4Addr>| {
        let mut run = Run::bound(100);
        while run.client.phase() != Phase::Selecting {
            run.tick();
        }
        let discover = run.message();
        for server in [Some(first), second].into_iter().flatten() {
            run.step(Event::Received(&answer(MessageType::Offer, &discover, server, ADDRESS, 100)));
        }
        if run.client.phase() == Phase::Selecting {
            let begun = run.now;
            run.tick();
            assert_eq!(run.now, begun.after(SECOND));
        }
        run.message().options.address(code::SERVER_ID).unwrap()
    };
    assert_eq!(again(SERVER, None), SERVER);
    assert_eq!(again(OTHER, Some(SERVER)), SERVER);
    assert_eq!(again(OTHER, None), OTHER);
}

#[test]
fn a_release_says_what_is_held_and_who_holds_it() {
    let mut own = config();
    own.provide = vec![(code::CLIENT_ID, b"mine".to_vec()), (code::HOST_NAME, b"h".to_vec())];
    let mut run = Run::new(Client::new(own, 1));
    run.step(Event::Release);
    assert!(run.sent.is_empty(), "nothing is held yet");
    let mut run = Run::new(Client::new(run.client.config().clone(), 1));
    run.hears(MessageType::Offer, SERVER, 100);
    run.hears(MessageType::Ack, SERVER, 100);
    run.step(Event::Release);
    assert_eq!(run.sent.len(), 2);
    for (kind, via, packet) in &run.sent {
        assert_eq!((*kind, *via), (MessageType::Release, Via::Address { from: ADDRESS, to: SERVER }));
        assert_eq!((packet.ciaddr, packet.options.address(code::SERVER_ID)), (ADDRESS, Some(SERVER)));
        assert_eq!(packet.options.get(code::CLIENT_ID), Some(&b"mine"[..]));
        assert_eq!(packet.options.get(code::HOST_NAME), None);
    }
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Released)]));
    assert_eq!((run.client.phase(), run.client.deadline()), (Phase::Stopped, None));
}

#[test]
fn a_conflict_is_declined_and_a_new_lease_asked_for() {
    let mut run = Run::bound(100);
    run.step(Event::Conflict);
    let decline = run.message();
    assert_eq!(decline.options.address(code::REQUESTED_ADDRESS), Some(ADDRESS));
    assert_eq!((run.sent[0].0, decline.ciaddr), (MessageType::Decline, Ipv4Addr::UNSPECIFIED));
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Conflict)]));
    run.tick();
    assert_eq!(run.now, Time(10 * SECOND));
    assert_eq!(run.message().options.get(code::REQUESTED_ADDRESS), None);
}

#[test]
fn answers_for_others_are_passed_over() {
    let mut run = Run::new(Client::new(config(), 1));
    let good = answer(MessageType::Offer, &run.message(), SERVER, ADDRESS, 100);
    let wrong: [fn(&mut Packet); 4] = [
        |packet| packet.xid ^= 1,
        |packet| packet.chaddr[5] ^= 1,
        |packet| packet.reply = false,
        |packet| packet.options.set(code::MESSAGE_TYPE, [MessageType::Ack as u8]),
    ];
    for change in wrong {
        let mut packet = good.clone();
        change(&mut packet);
        run.step(Event::Received(&packet));
        assert_eq!(run.client.phase(), Phase::Selecting);
    }
    let mut useless = good.clone();
    useless.options.set(code::LEASE_TIME, [0; 4]);
    run.step(Event::Received(&useless));
    assert_eq!(run.done, [Action::Refused(MessageType::Offer, Refused::TooShort)]);
    run.step(Event::Received(&good));
    assert_eq!(run.client.phase(), Phase::Requesting);
}

#[test]
fn a_lease_without_end_has_no_timer() {
    let mut run = Run::bound(u32::MAX);
    assert_eq!(run.client.deadline(), None);
    run.step(Event::Renew);
    assert_eq!(run.client.phase(), Phase::Renewing);
    run.hears(MessageType::Ack, SERVER, u32::MAX);
    assert_eq!(run.client.deadline(), None);
}

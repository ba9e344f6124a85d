mod properties;

use super::*;

const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const OTHER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 2];

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn config() -> Config {
    Config { duid: super::super::duid_of_uuid([7; 16]), iaid: 1, request: vec![code::DNS_SERVERS] }
}

/// What a server answers: an address with T1, T2, its preferred and valid lifetime.
#[derive(Clone, Debug)]
struct Answer {
    kind: MessageType,
    server: &'static [u8],
    address: Ipv6Addr,
    times: [u32; 4],
    status: u16,
}

impl Answer {
    fn new(kind: MessageType, valid: u32) -> Answer {
        let times = match valid {
            u32::MAX => [u32::MAX; 4],
            valid => [valid / 4, valid / 2, valid, valid],
        };
        Answer { kind, server: SERVER, address: ip(7), times, status: 0 }
    }

    fn to(&self, request: &Message) -> Message {
        let [t1, t2, preferred, valid] = self.times;
        let mut association = IaNa { iaid: 1, t1, t2, options: Options::default() };
        if self.status == 0 {
            let address = IaAddress { address: self.address, preferred, valid, options: Options::default() };
            association.options.push(code::IA_ADDRESS, address.to_bytes());
        } else {
            association.options.push(code::STATUS, self.status.to_be_bytes());
        }
        let mut options = Options::default();
        options.push(code::CLIENT_ID, request.options.get(code::CLIENT_ID).unwrap_or_default());
        options.push(code::SERVER_ID, self.server);
        options.push(code::IA_NA, association.to_bytes());
        Message { kind: self.kind, xid: request.xid, options }
    }
}

/// A client and what it did last.
struct Run {
    client: Client,
    now: Time,
    sent: Vec<Message>,
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
                Action::Send { message, .. } => self.sent.push(Message::parse(&message).unwrap()),
                other => self.done.push(other),
            }
        }
    }

    /// Goes on to the next deadline.
    fn tick(&mut self) {
        self.now = self.client.deadline().expect("something is waited for");
        self.step(Event::Timer);
    }

    /// Goes on until something is sent.
    fn tick_until_sent(&mut self) {
        self.tick();
        while self.sent.is_empty() {
            self.tick();
        }
    }

    #[track_caller]
    fn message(&self) -> Message {
        let [message] = &self.sent[..] else { panic!("sent {:?}", self.sent) };
        message.clone()
    }

    fn hears(&mut self, answer: &Answer) {
        let message = answer.to(&self.message());
        self.step(Event::Received(&message));
    }

    /// A client with a lease of so many seconds.
    fn bound(valid: u32) -> Run {
        let mut run = Run::new(Client::new(config(), 1));
        run.hears(&Answer::new(MessageType::Advertise, valid));
        run.tick();
        run.hears(&Answer::new(MessageType::Reply, valid));
        assert_eq!(run.client.phase(), Phase::Bound);
        run
    }
}

fn addresses(message: &Message) -> Vec<IaAddress> {
    let association = IaNa::parse(message.options.get(code::IA_NA).unwrap()).unwrap();
    association.options.all(code::IA_ADDRESS).map(|value| IaAddress::parse(value).unwrap()).collect()
}

fn first_address(message: &Message) -> Option<Ipv6Addr> {
    addresses(message).first().map(|address| address.address)
}

#[test]
fn a_lease_is_obtained_by_four_messages() {
    let mut run = Run::new(Client::new(config(), 1));
    let solicit = run.message();
    assert_eq!(solicit.kind, MessageType::Solicit);
    assert_eq!(solicit.options.get(code::OPTION_REQUEST), Some(&[0, 23, 0, 82][..]));
    assert_eq!((solicit.options.get(code::SERVER_ID), first_address(&solicit)), (None, None));
    run.hears(&Answer::new(MessageType::Advertise, 100));
    assert!(run.sent.is_empty(), "others may answer too");
    run.tick();
    assert!((1001..=1100).contains(&run.now.0));
    let request = run.message();
    assert_eq!((request.kind, request.options.get(code::SERVER_ID)), (MessageType::Request, Some(SERVER)));
    assert_eq!(first_address(&request), Some(ip(7)));
    assert_ne!(request.xid, solicit.xid);
    run.hears(&Answer::new(MessageType::Reply, 100));
    assert!(matches!(&run.done[..], [Action::Use(lease)] if lease.address == ip(7)));
    assert!(!run.client.listens());
}

#[test]
fn the_preferred_server_is_chosen_and_one_of_255_at_once() {
    let advertise = |run: &mut Run, solicit: &Message, server: &'static [u8], preference: u8| {
        let mut message = Answer { server, ..Answer::new(MessageType::Advertise, 100) }.to(solicit);
        message.options.push(code::PREFERENCE, [preference]);
        run.step(Event::Received(&message));
    };
    for (preferences, chosen) in [([5, 9], OTHER), ([9, 5], SERVER), ([5, 5], SERVER)] {
        let mut run = Run::new(Client::new(config(), 1));
        let solicit = run.message();
        advertise(&mut run, &solicit, SERVER, preferences[0]);
        advertise(&mut run, &solicit, OTHER, preferences[1]);
        run.tick();
        assert_eq!(run.message().options.get(code::SERVER_ID), Some(chosen));
    }
    let mut run = Run::new(Client::new(config(), 1));
    let solicit = run.message();
    advertise(&mut run, &solicit, OTHER, 255);
    assert_eq!((run.message().kind, run.now), (MessageType::Request, Time(0)));
    // After the first wait the first one is taken; the server of the earlier lease is not waited for.
    let mut run = Run::new(Client::new(config(), 1));
    run.tick();
    let solicit = run.message();
    advertise(&mut run, &solicit, OTHER, 0);
    assert_eq!(run.message().kind, MessageType::Request);
}

#[test]
fn renewal_names_the_server_and_rebinding_none() {
    let mut run = Run::bound(1000);
    run.tick();
    assert!((245..=255).contains(&(run.now.0 / SECOND)), "{:?}", run.now);
    let renew = run.message();
    assert_eq!((renew.kind, renew.options.get(code::SERVER_ID)), (MessageType::Renew, Some(SERVER)));
    assert_eq!(first_address(&renew), Some(ip(7)));
    let mut renewals = 1;
    loop {
        run.tick_until_sent();
        if run.client.phase() != Phase::Renewing {
            break;
        }
        renewals += 1;
    }
    assert!((3..7).contains(&renewals), "{renewals} messages");
    let rebind = run.message();
    assert_eq!((rebind.kind, rebind.options.get(code::SERVER_ID)), (MessageType::Rebind, None));
    let t2 = run.client.lease().unwrap().timers.unwrap().rebind;
    assert_eq!(run.now, t2);
    run.hears(&Answer { server: OTHER, ..Answer::new(MessageType::Reply, 1000) });
    assert_eq!(run.client.lease().unwrap().server, OTHER);
    assert_eq!(run.client.lease().unwrap().start, run.now);
}

#[test]
fn a_reply_of_another_server_than_that_of_a_renewal_does_not_count() {
    let mut run = Run::bound(1000);
    run.tick();
    run.hears(&Answer { server: OTHER, ..Answer::new(MessageType::Reply, 1000) });
    assert_eq!((run.client.phase(), run.done.len()), (Phase::Renewing, 0));
}

#[test]
fn at_expiry_the_address_is_dropped_and_asked_for_again() {
    let mut run = Run::bound(1000);
    let expiry = run.client.lease().unwrap().expiry().unwrap();
    while run.client.phase() != Phase::Soliciting {
        run.tick();
    }
    assert_eq!(run.now, expiry);
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]));
    assert_eq!(first_address(&run.message()), Some(ip(7)));
}

#[test]
fn statuses_do_what_the_rfc_says() {
    let refuse = |run: &mut Run, kind, status| run.hears(&Answer { status, ..Answer::new(kind, 100) });
    // Of the advertisements: others may come.
    let mut run = Run::new(Client::new(config(), 1));
    refuse(&mut run, MessageType::Advertise, status::NO_ADDRS_AVAIL);
    assert_eq!(run.client.phase(), Phase::Soliciting);
    assert_eq!(run.client.counters().refusals, 1);
    // Renewing: the server is asked to give the address that it does not know any more.
    let mut run = Run::bound(1000);
    run.tick();
    refuse(&mut run, MessageType::Reply, status::NO_BINDING);
    assert_eq!((run.message().kind, first_address(&run.message())), (MessageType::Request, Some(ip(7))));
    assert!(run.client.lease().is_some(), "it is used to its end");
    refuse(&mut run, MessageType::Reply, status::NO_BINDING);
    assert!(matches!(run.done[..], [_, Action::Drop(_, Drop::Nak)]), "{:?}", run.done);
    assert_eq!(run.client.phase(), Phase::Waiting);
    // An address of another link is not used for a moment longer.
    let mut run = Run::bound(1000);
    run.tick();
    refuse(&mut run, MessageType::Reply, status::NOT_ON_LINK);
    assert_eq!(run.client.lease(), None);
    // What is unspecified is tried again.
    for number in [status::UNSPEC_FAIL, status::USE_MULTICAST, 77] {
        let mut run = Run::bound(1000);
        run.tick();
        refuse(&mut run, MessageType::Reply, number);
        assert_eq!((run.client.phase(), run.sent.len()), (Phase::Renewing, 0), "status {number}");
    }
    // A lifetime of 0 takes the address back.
    let mut run = Run::bound(1000);
    run.tick();
    run.hears(&Answer { times: [0; 4], ..Answer::new(MessageType::Reply, 0) });
    assert_eq!((run.client.lease(), run.client.phase()), (None, Phase::Waiting));
}

#[test]
fn after_a_restart_the_address_is_confirmed() {
    let bound = Run::bound(1000);
    let lease = bound.client.lease().unwrap().clone();
    let with_lease = || Run::new(Client::with_lease(config(), 2, lease.clone(), true));
    let mut run = with_lease();
    let confirm = run.message();
    assert_eq!((confirm.kind, confirm.options.get(code::SERVER_ID)), (MessageType::Confirm, None));
    assert_eq!(first_address(&confirm), Some(ip(7)));
    let answer = |status: u16| {
        let mut options = Options::default();
        options.push(code::CLIENT_ID, config().duid);
        options.push(code::SERVER_ID, OTHER);
        options.push(code::STATUS, status.to_be_bytes());
        Message { kind: MessageType::Reply, xid: confirm.xid, options }
    };
    run.step(Event::Received(&answer(status::SUCCESS)));
    assert_eq!(run.done, [Action::Use(lease.clone())], "the interface may have lost it");
    assert_eq!((run.client.phase(), run.client.lease()), (Phase::Bound, Some(&lease)));
    let mut run = with_lease();
    run.step(Event::Received(&answer(status::NOT_ON_LINK)));
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Nak)]));
    // Without an answer the lease is used to its end.
    let mut run = with_lease();
    while run.client.phase() == Phase::Confirming {
        run.tick();
    }
    assert!((9..=11).contains(&(run.now.0 / SECOND)), "{:?}", run.now);
    assert_eq!((run.client.phase(), run.client.lease()), (Phase::Bound, Some(&lease)));
    // One that has ended meanwhile is asked for.
    let mut run = Run::new(Client::new(config(), 0));
    run.client = Client::with_lease(config(), 2, lease, false);
    run.now = Time(2000 * SECOND);
    run.step(Event::Start);
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Expired)]));
    assert_eq!((run.message().kind, first_address(&run.message())), (MessageType::Solicit, Some(ip(7))));
}

#[test]
fn a_release_is_repeated_until_it_is_answered() {
    let mut run = Run::bound(1000);
    run.step(Event::Release);
    let release = run.message();
    assert_eq!((release.kind, release.options.get(code::SERVER_ID)), (MessageType::Release, Some(SERVER)));
    assert_eq!(first_address(&release), Some(ip(7)));
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Released)]));
    let mut unanswered = Run::bound(1000);
    unanswered.client = run.client.clone();
    run.hears(&Answer { status: status::NO_BINDING, ..Answer::new(MessageType::Reply, 0) });
    assert_eq!((run.client.phase(), run.client.deadline()), (Phase::Stopped, None));
    let mut sent = 1;
    while unanswered.client.phase() != Phase::Stopped {
        unanswered.tick();
        sent += unanswered.sent.len();
    }
    assert_eq!(sent, 4);
    let mut run = Run::new(Client::new(config(), 1));
    run.step(Event::Release);
    assert!(run.sent.is_empty(), "nothing is held yet");
    assert_eq!(run.client.phase(), Phase::Stopped);
}

#[test]
fn a_client_that_was_stopped_begins_again_with_the_address_that_it_had() {
    let mut run = Run::bound(1000);
    run.step(Event::Release);
    run.hears(&Answer { status: status::SUCCESS, ..Answer::new(MessageType::Reply, 0) });
    assert_eq!(run.client.phase(), Phase::Stopped);
    run.step(Event::Start);
    assert_eq!((run.message().kind, first_address(&run.message())), (MessageType::Solicit, Some(ip(7))));
    let before = run.client.counters().solicits;
    run.step(Event::Release);
    run.step(Event::Start);
    assert_eq!(run.client.counters().solicits, before + 1);
}

#[test]
fn a_conflict_is_declined_and_another_address_asked_for() {
    let mut run = Run::bound(1000);
    run.step(Event::Conflict);
    let decline = run.message();
    assert_eq!((decline.kind, decline.options.get(code::SERVER_ID)), (MessageType::Decline, Some(SERVER)));
    assert!(matches!(run.done[..], [Action::Drop(_, Drop::Conflict)]));
    run.hears(&Answer { status: status::SUCCESS, ..Answer::new(MessageType::Reply, 0) });
    let before = run.now;
    run.tick();
    assert_eq!(run.now, before.after(AFTER_DECLINE));
    assert_eq!((run.message().kind, first_address(&run.message())), (MessageType::Solicit, None));
}

#[test]
fn answers_for_others_are_passed_over() {
    let mut run = Run::new(Client::new(config(), 1));
    let good = Answer::new(MessageType::Advertise, 100).to(&run.message());
    let replaced = |code: u16, value: Option<&[u8]>| {
        let mut message = good.clone();
        message.options = Options::default();
        for (number, old) in good.options.iter() {
            match value {
                _ if number != code => message.options.push(number, old),
                Some(value) => message.options.push(number, value),
                None => {}
            }
        }
        message
    };
    let xid = Message { xid: good.xid ^ 1, ..good.clone() };
    let kind = Message { kind: MessageType::Reply, ..good.clone() };
    let others = [
        xid,
        kind,
        replaced(code::CLIENT_ID, Some(OTHER)),
        replaced(code::CLIENT_ID, None),
        replaced(code::SERVER_ID, None),
    ];
    for message in others {
        run.step(Event::Received(&message));
        assert_eq!((run.client.counters().advertises, run.done.len()), (0, 0), "{message:?}");
    }
    run.step(Event::Received(&replaced(code::IA_NA, Some(&[1, 2]))));
    assert_eq!(run.done, [Action::Refused(MessageType::Advertise, Refused::NoAssociation)]);
    run.step(Event::Received(&good));
    assert_eq!(run.client.counters().advertises, 1);
}

#[test]
fn nothing_is_listened_for_while_the_next_message_is_far_away() {
    let mut run = Run::new(Client::new(config(), 1));
    let mut deaf = 0;
    while run.now < Time(3 * 3600 * SECOND) {
        run.tick();
        deaf += usize::from(!run.client.listens());
    }
    assert!(deaf > 5, "{deaf} times");
    assert_eq!(run.client.phase(), Phase::Soliciting);
    assert!(run.client.counters().solicits < 20);
    // A server may want to be asked more often.
    run.tick_until_sent();
    let mut advertise = Answer { status: status::NO_ADDRS_AVAIL, ..Answer::new(MessageType::Advertise, 0) }
        .to(&run.message());
    advertise.options.push(code::SOL_MAX_RT, 60_u32.to_be_bytes());
    run.step(Event::Received(&advertise));
    run.step(Event::Carrier);
    let before = (run.now, run.client.counters().solicits);
    while run.now < before.0.after(3600 * SECOND) {
        run.tick();
    }
    assert!(run.client.counters().solicits - before.1 > 50);
}

#[test]
fn a_lease_without_end_has_no_timer() {
    let mut run = Run::bound(u32::MAX);
    assert_eq!(run.client.deadline(), None);
    run.step(Event::Renew);
    run.hears(&Answer::new(MessageType::Reply, u32::MAX));
    assert_eq!((run.client.phase(), run.client.deadline()), (Phase::Bound, None));
}

//! What must be true whatever the network does.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::simulation::{self, Traffic, drive, fate, hold_lease};

/// What a server answers: which type, whether it is the usual server, its status, T1, T2 and the lifetimes.
type Given = (u8, bool, u8, [u32; 4]);

fn an_answer() -> impl Strategy<Value = Given> {
    let time = || prop_oneof![0u32..4, 4u32..100, 100u32..100_000, Just(u32::MAX)];
    (0u8..8, any::<bool>(), 0u8..20, [time(), time(), time(), time()])
}

fn answered((kind, usual, status, mut times): Given, request: &Message) -> Option<Message> {
    let fitting =
        if request.kind == MessageType::Solicit { MessageType::Advertise } else { MessageType::Reply };
    let kind = match kind {
        0 => MessageType::Advertise,
        1 => MessageType::Reply,
        _ => fitting,
    };
    if status % 2 == 0 {
        times[2..].sort();
        times[..2].sort();
    }
    let server = if usual { SERVER } else { OTHER };
    let status = if status < 6 { u16::from(status) } else { 0 };
    Some(Answer { kind, server, address: ip(7), times, status }.to(request))
}

impl simulation::Run for Run {
    type Message = Message;

    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn deadline(&self) -> Option<Time> {
        self.client.deadline()
    }

    fn sent(&self) -> Vec<Message> {
        self.sent.clone()
    }

    fn step(&mut self, event: Event<'_>) {
        Run::step(self, event);
    }
}

/// Holds each step of a client to the rules.
#[derive(Default)]
struct Invariants {
    held: Option<Lease>,
    left: Option<Lease>,
    traffic: Traffic,
}

impl Invariants {
    fn hold(&mut self, run: &Run) -> Result<(), TestCaseError> {
        for action in &run.done {
            match action {
                Action::Use(lease) => self.held = Some(lease.clone()),
                Action::Drop(lease, why) => {
                    let held = self.held.take();
                    prop_assert_eq!(held.as_ref(), Some(lease));
                    self.left = matches!(why, Drop::Released | Drop::Conflict).then(|| lease.clone());
                }
                _ => {}
            }
        }
        for message in &run.sent {
            if matches!(message.kind, MessageType::Release | MessageType::Decline) {
                // Only of what was held, and no longer than its lifetime.
                let left = self.left.as_ref();
                prop_assert_eq!(left.map(|lease| lease.address), first_address(message));
                prop_assert_eq!(left.map(|lease| &lease.server[..]), message.options.get(code::SERVER_ID));
            }
            if matches!(message.kind, MessageType::Renew | MessageType::Rebind | MessageType::Confirm) {
                prop_assert_eq!(self.held.as_ref().map(|lease| lease.address), first_address(message));
            }
        }
        self.traffic.hold(run.now, run.sent.len())?;
        prop_assert_eq!(&self.held, &run.client.lease().cloned());
        hold_lease(self.held.as_ref().and_then(|lease| lease.timers), run.now, run.client.deadline())?;
        let idle = matches!(run.client.phase(), Phase::Stopped | Phase::Bound);
        prop_assert!(idle || run.client.deadline().is_some(), "stuck in {:?}", run.client.phase());
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_the_network_does_the_rules_hold(
        seed: u64,
        fates in proptest::collection::vec(fate(an_answer()), 1..200),
        late in proptest::collection::vec(0u64..3_000_000, 1..200),
    ) {
        let mut run = Run::new(Client::new(config(), seed));
        let mut invariants = Invariants::default();
        drive(&mut run, fates, &late, answered, |run| invariants.hold(run))?;
    }

    /// With a server that answers most messages, a lease is kept for years.
    #[test]
    fn years_pass_with_one_lease(seed: u64, valid in 100u32..10_000_000, lost in proptest::collection::vec(any::<bool>(), 64)) {
        let mut run = Run::bound(valid);
        run.client.random = Random::new(seed);
        let mut renewals = 0;
        for i in 0..400 {
            run.tick_until_sent();
            // Of two messages one at least is answered.
            if lost[i % lost.len()] && i % 2 == 0 {
                continue;
            }
            run.hears(&Answer::new(MessageType::Reply, valid));
            renewals += 1;
            prop_assert!(matches!(run.done[..], [Action::Use(_)]), "{:?}", run.done);
        }
        prop_assert!(renewals >= 200);
    }
}

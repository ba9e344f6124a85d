//! What must be true whatever the network does.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::simulation::{self, Traffic, drive, fate, hold_lease};

/// What a server answers: which type, whether it is the usual server, the lease time, T1 and T2.
type Answer = (u8, bool, u32, [u32; 2]);

fn an_answer() -> impl Strategy<Value = Answer> {
    let lease = prop_oneof![0u32..4, 4u32..100, 100u32..100_000, Just(u32::MAX)];
    (0u8..8, any::<bool>(), lease, any::<[u32; 2]>())
}

fn answered((kind, usual, lease, timers): Answer, request: &Packet) -> Option<Packet> {
    let fitting = match request.kind()? {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request => MessageType::Ack,
        _ => return None,
    };
    let kind = match kind {
        0 => MessageType::Nak,
        1 => MessageType::Offer,
        2 => MessageType::Ack,
        _ => fitting,
    };
    let mut packet = answer(kind, request, if usual { SERVER } else { OTHER }, ADDRESS, lease);
    packet.options.set(code::RENEWAL_TIME, (timers[0] % 200_000).to_be_bytes());
    packet.options.set(code::REBINDING_TIME, (timers[1] % 200_000).to_be_bytes());
    Some(packet)
}

impl simulation::Run for Run {
    type Message = Packet;

    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn deadline(&self) -> Option<Time> {
        self.client.deadline()
    }

    fn sent(&self) -> Vec<Packet> {
        self.sent.iter().map(|(_, _, packet)| packet.clone()).collect()
    }

    fn step(&mut self, event: Event<'_>) {
        Run::step(self, event);
    }
}

/// Holds each step of a client to the rules.
#[derive(Default)]
struct Invariants {
    held: Option<Lease>,
    traffic: Traffic,
}

impl Invariants {
    fn hold(&mut self, run: &Run) -> Result<(), TestCaseError> {
        for (kind, via, packet) in &run.sent {
            if let Via::Address { from, .. } = via {
                // Also the RELEASE: only of what is held, from its own address.
                prop_assert_eq!(self.held.as_ref().map(|lease| lease.address), Some(*from));
                prop_assert_eq!(packet.ciaddr, *from);
            }
            if *kind == MessageType::Decline {
                prop_assert!(self.held.is_some());
            }
        }
        self.traffic.hold(run.now, run.sent.len())?;
        for action in &run.done {
            match action {
                Action::Use(lease) => self.held = Some(lease.clone()),
                Action::Drop(lease, _) => {
                    let held = self.held.take();
                    prop_assert_eq!(held.as_ref(), Some(lease));
                }
                _ => {}
            }
        }
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

    /// With a server that answers most requests, a lease is kept for years.
    #[test]
    fn years_pass_with_one_lease(seed: u64, lease in 2u32..1_000_000, lost in proptest::collection::vec(any::<bool>(), 64)) {
        let mut run = Run::bound(lease);
        run.client.random = Random::new(seed);
        let mut renewals = 0;
        for i in 0..400 {
            run.tick();
            // Of two requests one at least is answered.
            if lost[i % lost.len()] && i % 2 == 0 {
                continue;
            }
            run.hears(MessageType::Ack, SERVER, lease);
            renewals += 1;
            prop_assert!(matches!(run.done[..], [Action::Use(_)]));
        }
        prop_assert!(renewals >= 200);
    }
}

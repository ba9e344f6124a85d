//! Drives a client through whatever a network may do, for the property tests of both protocols.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::{Event, SECOND, Time, Timers};

/// A client under test, and what it did last.
pub(crate) trait Run {
    /// A message of the protocol.
    type Message: Clone;

    fn now(&mut self) -> &mut Time;
    fn deadline(&self) -> Option<Time>;
    /// The messages of the latest step.
    fn sent(&self) -> Vec<Self::Message>;
    fn step(&mut self, event: Event<'_, Self::Message>);
}

/// What the network does with the messages of one step, and what else happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate<A> {
    Lost,
    /// A server answers after so many milliseconds.
    Answered(A, u16),
    Other(u8),
}

/// Fates, of which the answers are these.
pub(crate) fn fate<A: Clone + std::fmt::Debug>(
    answer: impl Strategy<Value = A>,
) -> impl Strategy<Value = Fate<A>> {
    prop_oneof![
        2 => Just(Fate::Lost),
        6 => (answer, any::<u16>()).prop_map(|(answer, delay)| Fate::Answered(answer, delay % 5000)),
        1 => any::<u8>().prop_map(Fate::Other),
    ]
}

/// Steps through fates. `late` has how many milliseconds the machine is suspended for each time, where that is below
/// 100 000; `answer` makes a message of an answer, and `hold` looks at each step.
pub(crate) fn drive<R: Run, A: Copy>(
    run: &mut R,
    fates: Vec<Fate<A>>,
    late: &[u64],
    answer: impl Fn(A, &R::Message) -> Option<R::Message>,
    mut hold: impl FnMut(&R) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut answers: Vec<(Time, R::Message)> = Vec::new();
    hold(run)?;
    for (i, fate) in fates.into_iter().enumerate() {
        if let Fate::Answered(given, delay) = fate {
            let at = run.now().after(u64::from(delay));
            answers.extend(
                run.sent().iter().filter_map(|sent| answer(given, sent)).map(|message| (at, message)),
            );
        }
        answers.sort_by_key(|(at, _)| *at);
        let (now, deadline) = (*run.now(), run.deadline());
        match answers.first() {
            Some((at, _)) if deadline.is_none_or(|deadline| *at <= deadline) => {
                let (at, message) = answers.remove(0);
                *run.now() = now.max(at);
                run.step(Event::Received(&message));
            }
            _ => {
                let suspended = Some(late[i % late.len()]).filter(|late| *late < 100_000).unwrap_or(0);
                let due = deadline.map_or(now.after(SECOND), |deadline| deadline.max(now));
                *run.now() = due.after(suspended);
                run.step(Event::Timer);
            }
        }
        hold(run)?;
        if let Fate::Other(which) = fate {
            run.step(match which % 16 {
                0 => Event::Conflict,
                1 => Event::Release,
                2..6 => Event::Renew,
                _ => Event::Carrier,
            });
            hold(run)?;
        }
    }
    Ok(())
}

/// When messages were sent in the last 10 seconds.
#[derive(Default)]
pub(crate) struct Traffic(VecDeque<Time>);

impl Traffic {
    /// Fails where there is a storm of messages.
    pub(crate) fn hold(&mut self, now: Time, sent: usize) -> Result<(), TestCaseError> {
        self.0.extend(std::iter::repeat_n(now, sent));
        while self.0.front().is_some_and(|sent| now.since(*sent) > 10 * SECOND) {
            self.0.pop_front();
        }
        prop_assert!(self.0.len() <= 60, "a storm: {} messages in 10 s", self.0.len());
        Ok(())
    }
}

/// Fails where a lease with these timers is used past its end, or nothing would end it.
pub(crate) fn hold_lease(
    timers: Option<Timers>,
    now: Time,
    deadline: Option<Time>,
) -> Result<(), TestCaseError> {
    let Some(timers) = timers else { return Ok(()) };
    prop_assert!(now < timers.expiry, "used past its expiry");
    prop_assert!(deadline.is_some_and(|deadline| deadline <= timers.expiry), "nothing would end it");
    Ok(())
}

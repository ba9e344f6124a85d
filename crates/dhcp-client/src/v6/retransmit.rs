//! When a message is sent again (RFC 8415, section 15).

use crate::{Random, SECOND, Time};

/// The parameters of one kind of message (RFC 8415, section 7.6); times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    /// The first wait (IRT).
    first: u64,
    /// The longest wait (MRT); 0 for no limit.
    pub(super) longest: u64,
    /// How often it is sent (MRC); 0 for no limit.
    times: u32,
    /// How long it is tried (MRD); 0 for no limit.
    duration: u64,
}

const fn parameters(first: u64, longest: u64, times: u32, duration: u64) -> Parameters {
    Parameters { first: first * SECOND, longest: longest * SECOND, times, duration: duration * SECOND }
}

pub(super) const SOLICIT: Parameters = parameters(1, 3600, 0, 0);
pub(super) const REQUEST: Parameters = parameters(1, 30, 10, 0);
pub(super) const CONFIRM: Parameters = parameters(1, 4, 0, 10);
pub(super) const RENEW: Parameters = parameters(10, 600, 0, 0);
pub(super) const REBIND: Parameters = parameters(10, 600, 0, 0);
pub(super) const RELEASE: Parameters = parameters(1, 0, 4, 0);
pub(super) const DECLINE: Parameters = parameters(1, 0, 4, 0);

/// The repetition of one message.
#[derive(Clone, Debug)]
pub(super) struct Retransmission {
    parameters: Parameters,
    began: Time,
    /// How often it was sent.
    sent: u32,
    /// The latest wait (RT), in milliseconds.
    wait: u64,
}

impl Retransmission {
    /// A message that is about to be sent for the first time.
    pub(super) fn new(parameters: Parameters, now: Time) -> Retransmission {
        Retransmission { parameters, began: now, sent: 0, wait: 0 }
    }

    /// Whether the first wait for an answer is not over, or has not begun.
    pub(super) fn is_first_wait(&self) -> bool {
        self.sent <= 1
    }

    /// Whether it is not to be sent again.
    pub(super) fn is_over(&self, now: Time) -> bool {
        let Parameters { times, duration, .. } = self.parameters;
        (times > 0 && self.sent >= times) || (duration > 0 && now.since(self.began) >= duration)
    }

    /// Counts a message that is sent now, and gives the time up to which an answer is waited for.
    /// Waits double, with 10 % of jitter; `above` has the first one not shorter than it should be, so
    /// that the ADVERTISE of a server that waits for a second comes in time (section 18.2.1).
    pub(super) fn send(&mut self, now: Time, above: bool, random: &mut Random) -> Time {
        let Parameters { first, longest, duration, .. } = self.parameters;
        self.wait = match self.sent {
            0 if above => random.around(first + first / 20, first / 20 - 1),
            0 => random.around(first, first / 10),
            _ => random.around(self.wait * 2, self.wait / 10),
        };
        if longest > 0 && self.wait > longest {
            self.wait = random.around(longest, longest / 10);
        }
        self.sent += 1;
        let next = now.after(self.wait);
        if duration > 0 { next.min(self.began.after(duration)).max(now.after(1)) } else { next }
    }

    /// Hundredths of a second since the first message (section 21.9).
    pub(super) fn elapsed(&self, now: Time) -> u16 {
        u16::try_from(now.since(self.began) / 10).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits in tenths of a second.
    fn waits(parameters: Parameters, count: usize) -> Vec<u64> {
        let mut random = Random::new(1);
        let mut now = Time(0);
        let mut repeated = Retransmission::new(parameters, now);
        let mut waits = Vec::new();
        while waits.len() < count && !repeated.is_over(now) {
            let next = repeated.send(now, false, &mut random);
            waits.push(next.since(now) / 100);
            now = next;
        }
        waits
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let solicits = waits(SOLICIT, 16);
        assert!((9..=11).contains(&solicits[0]));
        for pair in solicits[..11].windows(2) {
            let ratio = pair[1] as f64 / pair[0] as f64;
            assert!((1.7..2.3).contains(&ratio), "{solicits:?}");
        }
        assert!(solicits[13..].iter().all(|wait| (32_400..=39_600).contains(wait)), "{solicits:?}");
    }

    #[test]
    fn messages_end_after_their_number_or_time() {
        assert_eq!(waits(REQUEST, 99).len(), 10);
        assert_eq!(waits(RELEASE, 99).len(), 4);
        let confirms = waits(CONFIRM, 99);
        assert!((98..=100).contains(&confirms.iter().sum::<u64>()), "{confirms:?}");
    }

    #[test]
    fn the_first_wait_for_advertisements_is_a_whole_second() {
        for seed in 0..100 {
            let wait = Retransmission::new(SOLICIT, Time(0)).send(Time(0), true, &mut Random::new(seed));
            assert!((1001..=1100).contains(&wait.0), "{wait:?}");
        }
    }
}

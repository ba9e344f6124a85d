//! When something has to happen to a lease.

use crate::{Random, SECOND, Time};

/// How long answers are listened for after a message, in milliseconds: the next one may be hours away, and the socket
/// holds the container's namespace.
pub(crate) const LISTEN: u64 = 60 * SECOND;

/// After a DECLINE nothing is sent for this long (RFC 2131, section 3.1, point 5).
pub(crate) const AFTER_DECLINE: u64 = 10 * SECOND;

/// When something has to happen to a lease: `renew` < `rebind` < `expiry`, whatever the server sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// The time from which its server is requested to renew it (T1).
    pub renew: Time,
    /// The time from which every server is (T2).
    pub rebind: Time,
    /// The address must not be used from here on.
    pub expiry: Time,
}

impl Timers {
    /// Those of a lease of at least 2 seconds: T1 and T2 as a server gave them where they make sense, else
    /// these others, of which the second is above 1 and below the end. All are milliseconds from the start.
    pub(crate) fn new(start: Time, lease: u64, given: [Option<u64>; 2], others: [u64; 2]) -> Timers {
        let between = |low: u64, high: u64| move |value: &u64| low < *value && *value < high;
        let rebind = given[1].filter(between(1, lease)).unwrap_or(others[1]);
        let renew = given[0].filter(between(0, rebind)).or(Some(others[0]).filter(between(0, rebind)));
        let renew = renew.unwrap_or(rebind / 2);
        Timers { renew: start.after(renew), rebind: start.after(rebind), expiry: start.after(lease) }
    }
    /// When the lease is renewed for the first time: many clients that began together must not renew together.
    pub(crate) fn first_renewal(&self, now: Time, random: &mut Random) -> Time {
        let room = (self.rebind.since(self.renew) / 4).min(self.renew.since(now) / 10).min(SECOND);
        Time(random.around(self.renew.0, room)).max(now)
    }
}

/// The wait after a server refused: twice as long after each further refusal (as systemd-networkd).
#[derive(Clone, Debug)]
pub(crate) struct Backoff(u64);

impl Backoff {
    const SHORTEST: u64 = SECOND;
    const LONGEST: u64 = 30 * 60 * SECOND;

    /// Before the first refusal, and after a grant.
    pub(crate) fn new() -> Backoff {
        Backoff(Backoff::SHORTEST)
    }

    /// The wait after this refusal, in milliseconds.
    pub(crate) fn next(&mut self) -> u64 {
        let wait = self.0;
        self.0 = (wait * 2).min(Backoff::LONGEST);
        wait
    }
}

//! When something has to happen to a lease.

use crate::Time;

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
}

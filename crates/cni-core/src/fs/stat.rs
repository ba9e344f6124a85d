//! What a folder says of itself.

/// A point in time as file systems keep it: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds, below a milliard.
    pub nsec: i64,
}

impl Timestamp {
    /// The time that many nanoseconds earlier.
    #[must_use]
    pub fn minus(self, nanoseconds: i64) -> Timestamp {
        const SECOND: i64 = 1_000_000_000;
        let nsec = self.nsec.saturating_sub(nanoseconds);
        Timestamp { sec: self.sec.saturating_add(nsec.div_euclid(SECOND)), nsec: nsec.rem_euclid(SECOND) }
    }
}

/// What identifies a file for as long as it exists, and when it was changed last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The device.
    pub dev: u64,
    /// The number of the inode on the device.
    pub ino: u64,
    /// The time of the last change of its content.
    pub modified: Timestamp,
}

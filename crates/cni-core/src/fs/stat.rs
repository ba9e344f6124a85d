//! Identity and modification time of a folder.

/// A time of a file system: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds, less than 10^9.
    pub nsec: i64,
}

impl Timestamp {
    /// The time so many nanoseconds earlier.
    #[must_use]
    pub fn minus(self, nanoseconds: i64) -> Timestamp {
        const SECOND: i64 = 1_000_000_000;
        let nsec = self.nsec.saturating_sub(nanoseconds);
        Timestamp { sec: self.sec.saturating_add(nsec.div_euclid(SECOND)), nsec: nsec.rem_euclid(SECOND) }
    }
}

/// What identifies a file while it exists, and its modification time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The device.
    pub dev: u64,
    /// The inode number on the device.
    pub ino: u64,
    /// The modification time.
    pub modified: Timestamp,
}

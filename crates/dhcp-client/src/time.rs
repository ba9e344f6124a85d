//! Time as the state machines know it.

/// One second in the unit of [`Time`].
pub const SECOND: u64 = 1000;

/// A point in time, in milliseconds of any clock that never goes back. A daemon should take
/// `CLOCK_BOOTTIME`, which counts while the machine is suspended, as the server's clock does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time so many milliseconds later.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Time {
        Time(self.0.saturating_add(milliseconds))
    }

    /// The milliseconds since an earlier time; 0 where it is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

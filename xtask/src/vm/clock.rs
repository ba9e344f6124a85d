//! The rate of the processor's time-stamp counter, which the emulated processor shares.

/// The counter's rate in kHz, measured against the monotonic clock; `None` where the processor has no such counter.
///
/// A kernel that boots in emulation measures the rate itself, against an emulated timer. Where other
/// processes delay that timer, the result can be a tenth of the truth, and all clocks of the
/// machine then run ten times as fast (`arch/x86/kernel/tsc.c`, "PIT calibration deviates from HPET").
pub(super) fn counter_khz() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    return Some(x86::counter_khz());
    #[cfg(not(target_arch = "x86_64"))]
    return None;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::time::{Duration, Instant};

    /// How long the counter is watched. With readings that are a microsecond apart, the error is about 0.001 %.
    const WATCHED: Duration = Duration::from_millis(100);

    pub(super) fn counter_khz() -> u64 {
        let (first_count, first) = reading();
        std::thread::sleep(WATCHED);
        let (last_count, last) = reading();
        let nanoseconds = last.duration_since(first).as_nanos().max(1);
        let khz = u128::from(last_count - first_count) * 1_000_000 / nanoseconds;
        u64::try_from(khz).unwrap_or(u64::MAX)
    }

    /// The counter and the clock at one moment: the closest of ten pairs, since another process may run between the two.
    fn reading() -> (u64, Instant) {
        let pairs = (0..10).map(|_| {
            let before = counter();
            let now = Instant::now();
            (counter() - before, before, now)
        });
        let (_, count, now) =
            pairs.min_by_key(|(width, ..)| *width).unwrap_or((0, counter(), Instant::now()));
        (count, now)
    }

    fn counter() -> u64 {
        #[expect(unsafe_code, reason = "the intrinsic is declared unsafe; RDTSC has no precondition")]
        unsafe {
            core::arch::x86_64::_rdtsc()
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_measurements_agree() {
        let Some(first) = super::counter_khz() else { return };
        let second = super::counter_khz().expect("it had a rate before");
        assert!(first > 100_000, "{first} kHz is less than any processor has");
        assert!(first.abs_diff(second) < first / 100, "{first} and {second} kHz");
    }
}

//! Numbers that differ between clients: transaction ids and jitter.

/// SplitMix64 (Steele, Lea, Flood 2014). A transaction id keeps answers apart; it is not a
/// secret, as every host on the link sees it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that the seed determines.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value up to `spread` above or below `middle`.
    pub fn around(&mut self, middle: u64, spread: u64) -> u64 {
        let offset = self.number() % (2 * spread.min(u64::MAX / 4) + 1);
        middle.saturating_add(offset).saturating_sub(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_spread() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..1000).map(|_| random.around(1000, 100)).collect();
        assert!(drawn.iter().all(|value| (900..=1100).contains(value)));
        assert!(drawn.iter().any(|value| *value < 920) && drawn.iter().any(|value| *value > 1080));
        assert_eq!(random.around(5, 0), 5);
    }
}

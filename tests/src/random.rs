use std::time::Duration;

/// A sequence of numbers that a seed decides (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        // The state must not be 0; one multiplication parts seeds that are close to each other.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("a count");
        &choices[usize::try_from(self.below(count)).expect("an index")]
    }
}

/// How a test with an attacker runs: for `OXCNI_HOSTILE_SECONDS` (3), from `OXCNI_HOSTILE_SEED` (1).
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// How long the attack lasts.
    pub duration: Duration,
    /// Decides what the attacker does, in which order.
    pub seed: u64,
}

impl Attack {
    /// As the environment sets them.
    pub fn from_environment() -> Self {
        let number = |name: &str, default: u64| {
            let set = std::env::var(name).ok();
            set.map_or(default, |text| {
                text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
            })
        };
        Self {
            duration: Duration::from_secs(number("OXCNI_HOSTILE_SECONDS", 3)),
            seed: number("OXCNI_HOSTILE_SEED", 1),
        }
    }
}

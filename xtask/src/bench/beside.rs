//! This build beside an earlier one that was measured in the same run.

use super::contender::{Verb, Who};
use super::growth::Grown;
use super::pods::Attached;
use super::sample::{Sample, Series};
use super::workload::Measured;
use crate::table::{Style, Table};
use serde::Serialize;

/// A ratio is called worse or better where it is this many standard deviations from 1. A run has
/// more than a hundred ratios: with three, one would be called worse by chance every few runs.
const DEVIATIONS: f64 = 4.0;

/// A ratio of times this close to 1 is not called worse or better, however little the samples vary.
const NEGLIGIBLE: f64 = 0.01;

/// The same for memory and page faults. They hardly vary in a run, but from build to build by up to two
/// pieces of 64 KiB (of 1.9 MiB): it depends on where the linker puts a function.
const NEGLIGIBLE_MEMORY: f64 = 0.07;

/// How often the samples are drawn again to see how much their medians vary.
const RESAMPLES: usize = 400;

/// One call of this build and of the earlier one.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    what: String,
    who: Who,
    wall: Ratio,
    cpu: Ratio,
    memory: Ratio,
    faults: Ratio,
}

/// The median of this build in terms of the earlier one's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    ratio: f64,
    /// The range of ratios that the samples are compatible with.
    low: f64,
    high: f64,
    /// What difference from 1 is not judged.
    #[serde(skip)]
    negligible: f64,
}

impl Ratio {
    fn of(this: &[f64], earlier: &[f64], negligible: f64) -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let logarithm = |this: &[f64], earlier: &[f64]| (median(this) / median(earlier)).ln();
        let drawn: Vec<f64> =
            (0..RESAMPLES).map(|_| logarithm(&random.resample(this), &random.resample(earlier))).collect();
        let center = drawn.iter().sum::<f64>() / RESAMPLES as f64;
        let variance = drawn.iter().map(|one| (one - center).powi(2)).sum::<f64>() / RESAMPLES as f64;
        let (middle, reach) = (logarithm(this, earlier), DEVIATIONS * variance.sqrt());
        Self { ratio: middle.exp(), low: (middle - reach).exp(), high: (middle + reach).exp(), negligible }
    }

    /// Whether this build is worse, and more so than the samples vary.
    pub(crate) fn is_worse(self) -> bool {
        self.low > 1.0 && self.ratio > 1.0 + self.negligible
    }

    fn cell(self) -> String {
        let text = format!("{:.3} ({:.2} to {:.2})", self.ratio, self.low, self.high);
        if self.is_worse() {
            Style::Bad.paint(&text)
        } else if self.high < 1.0 && self.ratio < 1.0 - self.negligible {
            Style::Good.paint(&text)
        } else {
            text
        }
    }
}

impl Beside {
    fn new(what: String, who: Who, this: &Series, earlier: &Series) -> Self {
        let ratio = |figure: fn(&Sample) -> f64, negligible| {
            Ratio::of(&this.figures(figure), &earlier.figures(figure), negligible)
        };
        Self {
            what,
            who,
            wall: ratio(|sample| sample.wall_us, NEGLIGIBLE),
            cpu: ratio(|sample| sample.cpu_us, NEGLIGIBLE),
            memory: ratio(|sample| sample.memory_kib as f64, NEGLIGIBLE_MEMORY),
            faults: ratio(|sample| sample.faults as f64, NEGLIGIBLE_MEMORY),
        }
    }

    /// All its ratios, each with the name of its figure.
    pub(crate) fn ratios(&self) -> [(&'static str, Ratio); 4] {
        [("wall", self.wall), ("CPU", self.cpu), ("memory", self.memory), ("page faults", self.faults)]
    }
}

/// Compares all that was measured of both builds.
pub(crate) fn compare(measured: &[Measured], grown: &[Grown], pods: &[Attached]) -> Vec<Beside> {
    let attachments = measured.iter().filter_map(|this| {
        let earlier = measured.iter().find(|one| {
            (one.workload, one.verb, Some(one.who)) == (this.workload, this.verb, this.who.earlier())
        })?;
        let what = format!("{} {}", this.workload.title(), this.verb.name());
        Some(Beside::new(what, this.who, &this.series, &earlier.series))
    });
    let growth = grown.iter().filter_map(|this| {
        let earlier = grown.iter().find(|one| {
            (one.reservations, one.verb, Some(one.who)) == (this.reservations, this.verb, this.who.earlier())
        })?;
        let what = format!("host-local {}, {} held", this.verb.name(), this.reservations);
        Some(Beside::new(what, this.who, &this.series, &earlier.series))
    });
    let pods = pods.iter().filter_map(|this| {
        let earlier = pods.iter().find(|one| {
            (one.additional, one.verb, Some(one.who)) == (this.additional, this.verb, this.who.earlier())
        })?;
        let what = format!("pod {}, default + {}", verb_of(this), this.additional);
        Some(Beside::new(what, this.who, &this.series, &earlier.series))
    });
    attachments.chain(growth).chain(pods).collect()
}

fn verb_of(pod: &Attached) -> &'static str {
    let verb: Verb = pod.verb;
    verb.name()
}

/// One row for each call.
pub(crate) fn table(all: &[Beside]) -> Table {
    let mut table = Table::new(["what", "who", ">wall", ">CPU", ">memory", ">page faults"]);
    for one in all {
        let [wall, cpu, memory, faults] = one.ratios().map(|(_, ratio)| ratio.cell());
        table.row([one.what.clone(), one.who.title().into(), wall, cpu, memory, faults]);
    }
    table
}

/// The median; that of an even number of figures is between the middle two.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// Numbers that are the same in each run, by SplitMix64: a verdict must not change when the same
/// samples are judged again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// As many figures as there are, each drawn from all of them.
    fn resample(&mut self, figures: &[f64]) -> Vec<f64> {
        let length = figures.len() as u64;
        figures.iter().map(|_| figures[(self.next() % length) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{NEGLIGIBLE, Random, Ratio, median};

    /// Figures around a center that vary by up to a tenth of it.
    fn samples(center: f64, seed: u64) -> Vec<f64> {
        let mut random = Random(seed);
        (0..50).map(|_| center * (0.9 + 0.2 * (random.next() % 1000) as f64 / 1000.0)).collect()
    }

    #[test]
    fn the_same_build_is_not_worse_than_itself() {
        for seed in 0..200 {
            let ratio = Ratio::of(&samples(100.0, seed), &samples(100.0, seed + 1_000), NEGLIGIBLE);
            assert!(!ratio.is_worse() && ratio.high > 1.0, "{seed}: {ratio:?}");
        }
    }

    #[test]
    fn a_build_that_is_slower_by_a_fifth_is_worse() {
        for seed in 0..200 {
            let ratio = Ratio::of(&samples(120.0, seed), &samples(100.0, seed + 1_000), NEGLIGIBLE);
            assert!(ratio.is_worse(), "{seed}: {ratio:?}");
            assert!((1.1..1.3).contains(&ratio.ratio), "{seed}: {ratio:?}");
        }
    }

    #[test]
    fn figures_that_do_not_vary_are_told_apart_exactly() {
        let ratio = Ratio::of(&[102.0; 10], &[100.0; 10], NEGLIGIBLE);
        assert!(ratio.is_worse() && (ratio.high - 1.02).abs() < 1e-9);
        assert!(!Ratio::of(&[100.5; 10], &[100.0; 10], NEGLIGIBLE).is_worse());
    }

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}

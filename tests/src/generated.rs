//! Generated cases that are given to Go and to ours, as `cargo xtask differential` asks for them.

use std::cell::RefCell;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::Difference;

/// How many cases, and which: `OXCNI_DIFFERENTIAL_CASES` and `OXCNI_DIFFERENTIAL_SEED`.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    cases: u32,
    seed: u64,
    /// To see all differences at once, where `OXCNI_DIFFERENTIAL_ALL` is set; none is made smaller.
    shows_all: bool,
}

/// What came of one case.
#[derive(Debug)]
pub struct Compared {
    /// Whether Go does what the case asks for.
    pub succeeds_in_go: bool,
    /// What no rule explains.
    pub unexplained: Vec<Difference>,
    /// The rules that explained a difference.
    pub explained_by: Vec<&'static str>,
    /// What both printed, for a person.
    pub printed: String,
}

/// What came of all cases.
#[derive(Debug, Default)]
pub struct Tally {
    tried: u32,
    succeeded_in_go: u32,
    differing: u32,
    used: Vec<&'static str>,
}

/// An accepted difference, which some case must need.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// What differs, in a few words.
    pub name: &'static str,
    /// Why that is accepted.
    pub reason: &'static str,
    /// Whether so few cases need it that only a thousand of them must have one.
    pub rare: bool,
}

impl Comparison {
    /// As the environment asks for; without it, so many cases.
    pub fn new(cases: u32) -> Self {
        let wanted = number("OXCNI_DIFFERENTIAL_CASES");
        Self {
            cases: wanted.map_or(cases, |wanted| u32::try_from(wanted).expect("a count")),
            seed: number("OXCNI_DIFFERENTIAL_SEED").unwrap_or(1),
            shows_all: std::env::var_os("OXCNI_DIFFERENTIAL_ALL").is_some(),
        }
    }

    /// The source of the cases. They are always the same for a seed.
    pub fn runner(self) -> TestRunner {
        let config = Config {
            cases: self.cases,
            failure_persistence: None,
            max_shrink_iters: 60,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// Compares generated cases.
    ///
    /// # Panics
    /// Where a case differs, with the case made smaller; where fewer than half of the cases succeed in Go.
    pub fn run<C: Debug>(
        self,
        what: &str,
        cases: &impl Strategy<Value = C>,
        compare: impl Fn(&C) -> Compared,
    ) -> Tally {
        let tally = RefCell::new(Tally::default());
        let outcome = self.runner().run(cases, |case| {
            let Compared { succeeds_in_go, unexplained, explained_by, printed } = compare(&case);
            let differs = !unexplained.is_empty();
            let shown: String = unexplained.iter().map(|difference| format!("{difference}\n")).collect();
            let mut tally = tally.borrow_mut();
            tally.tried += 1;
            tally.succeeded_in_go += u32::from(succeeds_in_go);
            tally.differing += u32::from(differs);
            tally.used.extend(explained_by);
            tally.used.sort_unstable();
            tally.used.dedup();
            if self.shows_all && differs {
                println!("{case:?}\n{shown}{printed}\n");
            }
            prop_assert!(self.shows_all || !differs, "{shown}{printed}");
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("seed {}: {failure}", self.seed);
        }
        let tally = tally.into_inner();
        let Tally { tried, succeeded_in_go, differing, .. } = tally;
        println!("{what}, seed {}: {tried} cases, of which {succeeded_in_go} succeed in Go", self.seed);
        println!("Differences were accepted as: {:#?}", tally.used);
        assert_eq!(differing, 0, "cases that differ, of {tried}");
        // Few cases may happen to be those that fail.
        assert!(
            succeeded_in_go * 2 >= tried || tried < 30,
            "only {succeeded_in_go} of {tried} succeed in Go"
        );
        tally
    }
}

impl Tally {
    /// Requires that a case needed each of the rules, so that their list holds only what is true.
    ///
    /// # Panics
    /// Where no case needed a rule, of a thousand if it is rare, of sixty otherwise.
    pub fn needs(&self, rules: impl IntoIterator<Item = Accepted>) {
        let unused = rules.into_iter().filter(|rule| {
            self.tried >= if rule.rare { 1000 } else { 60 } && !self.used.contains(&rule.name)
        });
        let unused: Vec<_> = unused.map(|rule| format!("{}: {}", rule.name, rule.reason)).collect();
        assert!(unused.is_empty(), "no case needs these rules: {unused:#?}");
    }
}

fn number(name: &str) -> Option<u64> {
    let set = std::env::var(name).ok()?;
    Some(set.parse().unwrap_or_else(|_| panic!("{name} is not a number: {set}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(cases: u32) -> Comparison {
        Comparison { cases, seed: 1, shows_all: false }
    }

    fn equal(explained_by: Vec<&'static str>) -> Compared {
        Compared { succeeds_in_go: true, unexplained: Vec::new(), explained_by, printed: String::new() }
    }

    #[test]
    #[should_panic(expected = "no case needs these rules")]
    fn a_rule_that_no_case_needs_is_a_failure() {
        let tally = comparison(60).run("none", &Just(()), |()| equal(vec!["other"]));
        tally.needs([Accepted { name: "one", reason: "why", rare: false }]);
    }

    #[test]
    fn a_rare_rule_needs_one_case_of_a_thousand() {
        let rules = || [Accepted { name: "one", reason: "why", rare: true }];
        comparison(60).run("few", &Just(()), |()| equal(Vec::new())).needs(rules());
        let needed = RefCell::new(0);
        let tally = comparison(1000).run("many", &Just(()), |()| {
            *needed.borrow_mut() += 1;
            equal(if *needed.borrow() == 500 { vec!["one"] } else { Vec::new() })
        });
        tally.needs(rules());
    }

    #[test]
    #[should_panic(expected = "minimal failing input")]
    fn a_case_that_differs_is_made_smaller() {
        comparison(60).run("one", &(0_u32..1000), |number| Compared {
            unexplained: Difference::all(&(*number > 10).into(), &false.into()),
            ..equal(Vec::new())
        });
    }
}

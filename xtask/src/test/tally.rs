//! Counting: what the lines of Rust's test harness say, and what skipped or left out itself.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How tests ended.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    /// Names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Those that could not run, as `TEST: REASON`.
    pub(crate) skipped: Vec<String>,
    /// Those that the virtual machine does not repeat, as `TEST: REASON`.
    pub(crate) left_out: Vec<String>,
}

impl Tally {
    /// One check that isn't a test of the harness.
    pub(crate) fn check(name: &str, passed: bool) -> Self {
        let failed = if passed { Vec::new() } else { vec![name.to_owned()] };
        Self { passed: usize::from(passed), failed, ..Self::default() }
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.left_out.extend(other.left_out);
    }

    /// Says where these were run.
    pub(crate) fn located(mut self, place: &str) -> Self {
        for name in self.failed.iter_mut().chain(&mut self.skipped) {
            *name = format!("{place}: {name}");
        }
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, left_out: _ } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

/// Tests that ran in neither place: skipped here, for want of a feature, and left out there because
/// no kernel changes their result. A test of the separate binaries counts as run where the same
/// test of the multicall binary ran in the machine.
pub(super) fn run_nowhere(here: &Tally, there: &Tally) -> Vec<String> {
    fn names(lines: &[String]) -> BTreeSet<&str> {
        lines.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect()
    }
    let left_out = names(&there.left_out);
    let twin_ran = |test: &str| {
        let twin = test.strip_suffix("::separate").map(|name| format!("{name}::multicall"));
        twin.is_some_and(|twin| !left_out.contains(twin.as_str()))
    };
    let skipped = names(&here.skipped).into_iter();
    skipped.filter(|test| left_out.contains(test) && !twin_ran(test)).map(str::to_owned).collect()
}

/// Reads the harness' output and the logs of skips and of tests left out.
///
/// A test that skipped itself or left itself out passes as far as the harness knows. One that is `#[ignore]`d is
/// skipped too, with the reason that stands there.
pub(super) fn count(output: &[String], skip_log: &str, left_out_log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output {
        if let Some(result) = line.strip_prefix("test result: ") {
            tally.passed += passed_in(result);
            continue;
        }
        let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            continue;
        };
        if end.starts_with("FAILED") {
            tally.failed.push(name.to_owned());
        } else if let Some(reason) = end.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() { "ignored" } else { reason };
            tally.skipped.push(format!("{name}: {reason}"));
        }
    }
    let entries = |log: &str| -> Vec<String> {
        log.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    };
    let skips = entries(skip_log);
    tally.left_out = entries(left_out_log);
    tally.passed = tally.passed.saturating_sub(skips.len() + tally.left_out.len());
    tally.skipped.extend(skips);
    tally
}

/// `ok. 12 passed; 0 failed; ...` → 12
fn passed_in(result: &str) -> usize {
    let words: Vec<&str> = result.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "passed;");
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Tally, count, run_nowhere};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let output = lines(
            "test a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored, takes hours\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        let tally = count(&output, "b: needs ipvlan in the kernel\n", "");
        let expected = Tally {
            passed: 1,
            failed: vec!["c".into()],
            skipped: vec!["d: takes hours".into(), "b: needs ipvlan in the kernel".into()],
            left_out: Vec::new(),
        };
        assert_eq!(tally, expected);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn results_of_several_crates_add_up() {
        let output = lines("test result: ok. 2 passed; 0 failed;\ntest result: ok. 3 passed; 0 failed;");
        assert_eq!(count(&output, "", "").passed, 5);
    }

    #[test]
    fn a_test_that_was_left_out_did_not_pass() {
        let output = lines("test result: ok. 3 passed; 0 failed;");
        let tally = count(&output, "", "a: kubectl decides it\nb: kubectl decides it\n");
        assert_eq!((tally.passed, tally.left_out.len()), (1, 2));
    }

    #[test]
    fn a_test_that_ran_in_neither_place_is_found() {
        let here = Tally {
            skipped: lines(
                "a: needs kubectl\nb::separate: needs ipvlan\nc::separate: needs ipvlan\nd: needs ipvlan",
            ),
            ..Tally::default()
        };
        let there = Tally {
            left_out: lines(
                "a: kubectl decides it\nb::separate: same code\n\
                 c::separate: refused before\nc::multicall: refused before\ne: not skipped here",
            ),
            ..Tally::default()
        };
        assert_eq!(run_nowhere(&here, &there), ["a", "c::separate"]);
    }
}

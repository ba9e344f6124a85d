//! Counting: what the lines of Rust's test harness say, and what skipped itself.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How tests ended.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    /// Names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Those that could not run, as `TEST: REASON`.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// One check that isn't a test of the harness.
    pub(crate) fn check(name: &str, passed: bool) -> Self {
        let failed = if passed { Vec::new() } else { vec![name.to_owned()] };
        Self { passed: usize::from(passed), failed, skipped: Vec::new() }
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
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
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

/// Reads the harness' output and the log of skips.
///
/// A test that skipped itself passes as far as the harness knows. One that is `#[ignore]`d is
/// skipped too, with the reason that stands there.
pub(super) fn count(output: &[String], skip_log: &str) -> Tally {
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
    let skips = skip_log.lines().filter(|line| !line.trim().is_empty());
    let before = tally.skipped.len();
    tally.skipped.extend(skips.map(str::to_owned));
    tally.passed = tally.passed.saturating_sub(tally.skipped.len() - before);
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
    use super::{Tally, count};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let output = lines(
            "test a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored, takes hours\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        let tally = count(&output, "b: needs ipvlan in the kernel\n");
        let expected = Tally {
            passed: 1,
            failed: vec!["c".into()],
            skipped: vec!["d: takes hours".into(), "b: needs ipvlan in the kernel".into()],
        };
        assert_eq!(tally, expected);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn results_of_several_crates_add_up() {
        let output = lines("test result: ok. 2 passed; 0 failed;\ntest result: ok. 3 passed; 0 failed;");
        assert_eq!(count(&output, "").passed, 5);
    }
}

//! Reports of the suite, read and put side by side.

use crate::error::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A report of the suite (`report.json`), as far as the table needs it.
#[derive(Debug, Deserialize)]
pub(super) struct Run {
    #[serde(skip)]
    name: String,
    kernel: String,
    seconds: f64,
    profiles: Vec<Profile>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    id: String,
    version: String,
    level: String,
    title: String,
    claimed: bool,
    status: String,
}

/// All runs.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Run>);

impl Run {
    /// Reads the report in a folder.
    pub(super) fn read(name: &str, folder: &Path) -> Result<Self> {
        let path = folder.join("report.json");
        let text = fs::read_to_string(&path).context(|| format!("can't read {}", path.display()))?;
        let mut run: Self =
            serde_json::from_str(&text).context(|| format!("can't read {}", path.display()))?;
        run.name = name.to_owned();
        Ok(run)
    }

    /// Counts on one line.
    pub(super) fn summary(&self) -> String {
        let count = |status: &str| self.entries().filter(|(_, entry)| entry.status == status).count();
        format!(
            "{} passed, {} failed, {} skipped, {} broken in {:.0} s",
            count("passed"),
            count("failed"),
            count("skipped"),
            count("broken"),
            self.seconds
        )
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.profiles
            .iter()
            .flat_map(|profile| profile.entries.iter().map(|entry| (profile.name.as_str(), entry)))
    }

    fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }
}

impl Entry {
    fn is_failure(&self) -> bool {
        self.status == "broken" || (self.status == "failed" && self.claimed)
    }
}

impl Results {
    pub(super) fn add(&mut self, run: Run) {
        self.0.push(run);
    }

    /// Whether a run skipped anything.
    pub(super) fn is_partial(&self, name: &str) -> bool {
        let mut run = self.0.iter().filter(|run| run.name == name).flat_map(Run::entries);
        run.any(|(_, entry)| entry.status == "skipped")
    }

    /// Puts what another kernel could run in the place of what was skipped.
    pub(super) fn fill_in(&mut self, other: Run) {
        let Some(run) = self.0.iter_mut().find(|run| run.name == other.name) else { return };
        for profile in &mut run.profiles {
            let Some(there) = other.profile(&profile.name) else { continue };
            for entry in profile.entries.iter_mut().filter(|entry| entry.status == "skipped") {
                let same = |found: &&Entry| found.id == entry.id && found.version == entry.version;
                if let Some(found) = there.entries.iter().find(same) {
                    *entry = found.clone();
                }
            }
        }
        if run.kernel.split(" and ").all(|kernel| kernel != other.kernel) {
            run.kernel = format!("{} and {}", run.kernel, other.kernel);
        }
    }

    /// What a run failed, one line a case.
    pub(super) fn failures_of(&self, name: &str) -> Vec<String> {
        let run = self.0.iter().filter(|run| run.name == name);
        run.flat_map(Run::entries)
            .filter(|(_, entry)| entry.is_failure())
            .map(|(profile, entry)| {
                format!(
                    "{name}: {profile} {}@{}: {} ({})",
                    entry.id, entry.version, entry.title, entry.status
                )
            })
            .collect()
    }

    /// The table of all plugins, and what each implementation fails.
    pub(super) fn to_markdown(&self) -> String {
        let mut out = String::from(
            "# Reports\n\n\
             Written by `cargo xtask conformance`. A cell has the cases of MUST, of SHOULD and of the documentation: passed of all that were \
             run, over all versions of the specification. *n* skipped: what neither kernel could \
             run. What the Go plugins fail is explained in [deviations.md](../deviations.md).\n\n| plugin |",
        );
        self.0.iter().for_each(|run| {
            let _ = write!(out, " [{0}]({0}/report.txt) |", run.name);
        });
        out.push_str(&format!("\n|---|{}\n", "---|".repeat(self.0.len())));
        let names: BTreeSet<&str> =
            self.0.iter().flat_map(|run| run.profiles.iter().map(|profile| profile.name.as_str())).collect();
        for name in names {
            let _ = write!(out, "| {name} |");
            for run in &self.0 {
                let _ = write!(out, " {} |", run.profile(name).map_or("–".to_owned(), cell));
            }
            out.push('\n');
        }
        let _ = write!(out, "| kernel |");
        self.0.iter().for_each(|run| {
            let _ = write!(out, " {} |", run.kernel);
        });
        out.push_str("\n\n## Failures\n\nThe plugins that fail a case, in any version. Cases in *italics* are of the level SHOULD.\n\n");
        self.failures(&mut out);
        out
    }

    fn failures(&self, out: &mut String) {
        let mut table: BTreeMap<(String, String, String), BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for run in &self.0 {
            for (profile, entry) in run.entries().filter(|(_, entry)| entry.is_failure()) {
                let key = (entry.id.clone(), entry.level.clone(), entry.title.clone());
                table.entry(key).or_default().entry(&run.name).or_default().insert(profile);
            }
        }
        let _ = write!(out, "| case |");
        self.0.iter().for_each(|run| {
            let _ = write!(out, " {} |", run.name);
        });
        let _ = write!(out, "\n|---|{}\n", "---|".repeat(self.0.len()));
        for ((id, level, title), failing) in table {
            let title = if level == "should" { format!("*{title}*") } else { title };
            let _ = write!(out, "| {id} {title} |");
            for run in &self.0 {
                let plugins: Vec<&str> =
                    failing.get(run.name.as_str()).into_iter().flatten().copied().collect();
                let _ = write!(out, " {} |", plugins.join(", "));
            }
            out.push('\n');
        }
    }
}

/// `12/12 · 7/8 · 3/3`
fn cell(profile: &Profile) -> String {
    let counted = |level: &str, status: Option<&str>| {
        let counts = |entry: &&Entry| {
            let run = entry.status != "skipped" && entry.claimed;
            run && entry.level == level && status.is_none_or(|status| entry.status == status)
        };
        profile.entries.iter().filter(counts).count()
    };
    let part = |level: &str| format!("{}/{}", counted(level, Some("passed")), counted(level, None));
    let skipped = profile.entries.iter().filter(|entry| entry.status == "skipped").count();
    let levels = ["must", "should", "documented"].map(part).join(" · ");
    if skipped == 0 { levels } else { format!("{levels} · *{skipped}* skipped") }
}

#[cfg(test)]
mod tests {
    use super::{Results, Run};
    use serde_json::{Value, json};

    fn entry(id: &str, level: &str, status: &str) -> Value {
        json!({"id": id, "version": "1.1.0", "level": level, "title": "t", "claimed": true, "status": status})
    }

    fn run(kernel: &str, entries: &[Value]) -> Run {
        let profiles = json!([{"name": "bridge", "entries": entries}]);
        let mut run: Run =
            serde_json::from_value(json!({"kernel": kernel, "seconds": 1.0, "profiles": profiles})).unwrap();
        run.name = "x".to_owned();
        run
    }

    #[test]
    fn what_one_kernel_skips_another_fills_in() {
        let mut results = Results::default();
        results.add(run(
            "6.18",
            &[entry("a", "must", "passed"), entry("b", "must", "skipped"), entry("c", "should", "skipped")],
        ));
        assert!(results.is_partial("x") && !results.is_partial("y"));
        results.fill_in(run("6.1", &[entry("a", "must", "failed"), entry("b", "must", "failed")]));
        assert_eq!(results.failures_of("x"), ["x: bridge b@1.1.0: t (failed)"]);
        let page = results.to_markdown();
        assert!(page.contains("| bridge | 1/2 · 0/0 · 0/0 · *1* skipped |"), "{page}");
        assert!(page.contains("| kernel | 6.18 and 6.1 |") && page.contains("| b t | bridge |"), "{page}");
    }
}

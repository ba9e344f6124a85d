//! What came of a run, and the forms in which it is written.

mod gateway;
mod junit;
mod tap;
mod terminal;

use crate::Result;
use crate::case::{Kind, Level};
use crate::plan::{Item, RunKey};
use crate::profile::{Implementation, Profile};
use crate::version::Version;
use crate::worker::{Failure, Outcome, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The commit of the specification's text that the cases cite.
pub const TEXT: &str = "3f51e8803ebbdba0ebeed735b42137e4c7302403";

/// Everything that came of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The suite's version.
    pub suite: String,
    /// The commit of the text.
    pub text: String,
    /// The kernel's release.
    pub kernel: String,
    /// The folder of plugins.
    pub plugins: PathBuf,
    /// Seconds that all of it took.
    pub seconds: f64,
    /// Whether cases or versions were chosen, so that it is a part only.
    pub chosen: bool,
    /// Plugin by plugin.
    pub profiles: Vec<ProfileReport>,
}

/// What came of the cases of one plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileReport {
    /// The profile's name.
    pub name: String,
    /// The program.
    pub plugin: String,
    /// What the plugin is.
    pub kind: Kind,
    /// Who makes it.
    pub implementation: Implementation,
    /// The versions that it answers to VERSION.
    pub versions: Vec<Version>,
    /// Features that it claims.
    pub claims: Vec<String>,
    /// Run by run.
    pub entries: Vec<Entry>,
}

/// One run of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The case.
    pub id: String,
    /// The version.
    pub version: Version,
    /// How strongly the text demands it.
    pub level: Level,
    /// A few words.
    pub title: String,
    /// The requirement.
    pub requirement: String,
    /// Where it stands.
    pub text: String,
    /// The feature that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Whether a failure counts: no feature, or one that the profile claims.
    pub claimed: bool,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A form of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Terminal,
    /// Test Anything Protocol, version 14.
    Tap,
    /// JUnit's XML.
    Junit,
    /// All of it.
    Json,
    /// The form of the Gateway API's conformance reports, in YAML.
    Report,
}

impl Report {
    pub(crate) fn new(plugins: &Path, chosen: bool) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            suite: env!("CARGO_PKG_VERSION").to_owned(),
            text: TEXT.to_owned(),
            kernel: kernel.trim().to_owned(),
            plugins: plugins.to_owned(),
            seconds: 0.0,
            chosen,
            profiles: Vec::new(),
        }
    }

    /// The runs that count as failures; with `strict` also those of SHOULD.
    #[must_use]
    pub fn failures(&self, strict: bool) -> Vec<(&ProfileReport, &Entry)> {
        self.all().filter(|(_, entry)| entry.is_failure(strict)).collect()
    }

    /// The runs that could not be prepared.
    #[must_use]
    pub fn broken(&self) -> Vec<(&ProfileReport, &Entry)> {
        self.all().filter(|(_, entry)| entry.outcome.status == Status::Broken).collect()
    }

    /// Every run.
    pub fn all(&self) -> impl Iterator<Item = (&ProfileReport, &Entry)> {
        self.profiles.iter().flat_map(|profile| profile.entries.iter().map(move |entry| (profile, entry)))
    }

    /// The runs that were skipped: what another kernel or node may be able to run.
    #[must_use]
    pub fn skipped(&self) -> BTreeSet<RunKey> {
        let skipped = self.all().filter(|(_, entry)| entry.outcome.status == Status::Skipped);
        let key = |(profile, entry): (&ProfileReport, &Entry)| RunKey {
            profile: profile.name.clone(),
            case: entry.id.clone(),
            version: entry.version,
        };
        skipped.map(key).collect()
    }

    /// Reads a report in JSON.
    ///
    /// # Errors
    /// The file can't be read, or is no report.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Whether something that applies to the plugins was not run.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.chosen || self.all().any(|(_, entry)| entry.outcome.status == Status::Skipped)
    }

    /// The report as text.
    ///
    /// # Errors
    /// It can't be put into that form.
    pub fn render(&self, format: Format, strict: bool, colour: bool) -> Result<String> {
        Ok(match format {
            Format::Terminal => terminal::render(self, strict, colour),
            Format::Tap => tap::render(self, strict),
            Format::Junit => junit::render(self, strict),
            Format::Json => serde_json::to_string_pretty(self).map_err(|error| error.to_string())? + "\n",
            Format::Report => gateway::render(self)?,
        })
    }

    /// Writes every form into a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: &Path, strict: bool) -> Result<()> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let files = [
            ("report.txt", Format::Terminal),
            ("report.tap", Format::Tap),
            ("junit.xml", Format::Junit),
            ("report.json", Format::Json),
            ("report.yaml", Format::Report),
        ];
        for (name, format) in files {
            let path = folder.join(name);
            let text = self.render(format, strict, false)?;
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// The command that repeats one case.
    pub(crate) fn repeat(&self, profile: &ProfileReport, entry: &Entry) -> String {
        format!(
            "cni-conformance run --plugins {} --profile {} --case {} --spec {}",
            self.plugins.display(),
            profile.name,
            entry.id,
            entry.version
        )
    }
}

impl ProfileReport {
    pub(crate) fn new(profile: &Profile, versions: Vec<Version>) -> Self {
        Self {
            name: profile.name.clone(),
            plugin: profile.plugin.clone(),
            kind: profile.kind,
            implementation: profile.implementation.clone(),
            versions,
            claims: profile.claims.clone(),
            entries: Vec::new(),
        }
    }

    /// How many runs have this level and verdict; only those that count.
    #[must_use]
    pub fn count(&self, level: Level, status: Status) -> usize {
        let counted =
            |entry: &&Entry| entry.claimed && entry.level == level && entry.outcome.status == status;
        self.entries.iter().filter(counted).count()
    }
}

impl Entry {
    pub(crate) fn new(item: &Item<'_>, outcome: Outcome) -> Self {
        let case = item.case;
        Self {
            id: case.id.clone(),
            version: item.version,
            level: case.level,
            title: case.title.clone(),
            requirement: case.requirement.trim().to_owned(),
            text: case.text.clone(),
            feature: case.feature.clone(),
            claimed: case.feature.as_ref().is_none_or(|feature| item.profile.claims(feature)),
            outcome,
        }
    }

    /// Whether it counts as a failure.
    #[must_use]
    pub fn is_failure(&self, strict: bool) -> bool {
        self.outcome.status == Status::Failed && self.claimed && (strict || self.level != Level::Should)
    }

    fn failure(&self) -> Failure {
        self.outcome.failure.clone().unwrap_or_default()
    }
}

/// The exit code that a report stands for.
#[must_use]
pub fn exit_code(report: &Report, strict: bool) -> u8 {
    if !report.failures(strict).is_empty() {
        1
    } else if !report.broken().is_empty() || report.all().next().is_none() {
        2
    } else {
        0
    }
}

/// The call of a failure as a line for a shell.
fn call_line(report: &Report, failure: &Failure) -> Option<String> {
    failure.call.as_ref().map(|call| crate::worker::hand_line(call, &report.plugins))
}

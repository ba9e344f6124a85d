//! What a case is: data, as it stands in a file of `cases/`.

mod look;
mod step;

pub use look::{FileLook, Look, Reach, Recorded, Unchanged, ValueLook};
pub use step::{Answer, Call, Double, Expectation, Network, Operation, Outcome, Parallel, Run, Step, Write};

use crate::version::Range;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One requirement, and how to see whether it is met.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// Version and section of the text, and a number that is never given again: `1.1/del/3`.
    pub id: String,
    /// How strongly the text demands it.
    pub level: Level,
    /// Which plugins it is for.
    #[serde(deserialize_with = "one_or_many")]
    pub kind: Vec<Kind>,
    /// The one plugin whose documentation demands it; absent where the specification does.
    #[serde(default)]
    pub plugin: Option<String>,
    /// What a profile has to claim for a failure to count.
    #[serde(default)]
    pub feature: Option<String>,
    /// A few words.
    pub title: String,
    /// The requirement in this suite's own words.
    pub requirement: String,
    /// Where it stands: an address with a commit and lines.
    pub text: String,
    /// The versions of the specification in which it holds.
    #[serde(default)]
    pub versions: Range,
    /// Run for every one of these versions that the plugin has, not only for the newest.
    #[serde(default)]
    pub each: bool,
    /// What must be there; without it the case is skipped.
    #[serde(default)]
    pub needs: Needs,
    /// Namespaces that play containers.
    #[serde(default = "one_container")]
    pub containers: Vec<String>,
    /// What stands before.
    #[serde(default)]
    pub given: Vec<Step>,
    /// What is called.
    #[serde(default)]
    pub when: Vec<Step>,
    /// What must hold afterwards.
    #[serde(default)]
    pub then: Vec<Step>,
}

/// How strongly a text demands something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// RFC 2119's MUST.
    Must,
    /// RFC 2119's SHOULD: a failure is a warning unless the run is strict.
    Should,
    /// The plugin's own documentation.
    Documented,
}

impl Level {
    /// Its name in cases and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::Documented => "documented",
        }
    }
}

/// The kinds of programs that the specification has requirements for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every plugin.
    Any,
    /// Makes an interface.
    Interface,
    /// Adjusts what the plugin before it made.
    Chained,
    /// Gives addresses to another plugin.
    Ipam,
    /// Calls other plugins for whole interfaces.
    Meta,
    /// Executes plugins.
    Runtime,
    /// None of these: only what holds for every plugin applies to it.
    Other,
}

/// What a case or a profile can't do without.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Needs {
    /// Kinds of links and other features of the kernel: `macvlan`, `ipvlan`, `bridge-vlan`, `nftables`, …
    #[serde(default)]
    pub kernel: Vec<String>,
    /// Programs of the node.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Other plugins in the folder under test.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// What the profile has to claim for the case to have anything to say about the plugin: that it has
    /// a `master`, for example.
    #[serde(default)]
    pub claims: Vec<String>,
}

impl Case {
    /// The operations that a runtime is asked for.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.given.iter().chain(&self.when).chain(&self.then).filter_map(|step| match step {
            Step::Runtime(operation) => Some(operation),
            _ => None,
        })
    }
}

fn one_container() -> Vec<String> {
    vec![first_container()]
}

fn first_container() -> String {
    "a".to_owned()
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Kind>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::Array(array) => Value::Array(array),
        one => Value::Array(vec![one]),
    };
    serde_json::from_value(value).map_err(serde::de::Error::custom)
}

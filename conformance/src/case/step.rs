//! The steps of a case: what is called and what is looked at.

use super::first_container;
use super::look::{FileLook, Look, Reach, Recorded, Unchanged, ValueLook};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One step of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Step {
    /// Execute the plugin.
    Call(#[serde(deserialize_with = "call_or_command")] Call),
    /// Execute the plugin for several containers at the same time.
    Parallel(Parallel),
    /// Let the runtime do an operation on a whole network.
    Runtime(#[serde(deserialize_with = "operation_or_name")] Operation),
    /// Write a configuration list where the runtime looks for it.
    Network(Network),
    /// Run a command line on the host.
    Run(#[serde(deserialize_with = "run_or_line")] Run),
    /// Put a plugin of the suite's own into `CNI_PATH`, which records its calls.
    Double(Double),
    /// Write a file.
    Write(Write),
    /// A link as `ip -j -d link show` prints it.
    Link(Look),
    /// An address as `ip -j address show` prints it.
    Address(Look),
    /// A route as `ip -j -d route show table all` prints it.
    Route(Look),
    /// A rule as `ip -j rule show` prints it.
    Rule(Look),
    /// A file.
    File(FileLook),
    /// A TCP connection from one namespace to an address of another.
    Reach(Reach),
    /// What differs from how it was at the end of `given`.
    Unchanged(Unchanged),
    /// The calls that plugins of the suite's own recorded.
    Recorded(Recorded),
    /// A value that was captured or answered.
    Value(ValueLook),
    /// Values that must differ from each other.
    Distinct(Vec<String>),
}

/// One execution of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// `CNI_COMMAND`.
    #[serde(rename = "do")]
    pub command: String,
    /// The container that it is for.
    #[serde(rename = "in", default = "first_container")]
    pub container: String,
    /// `CNI_IFNAME`; the profile's where it is absent.
    #[serde(default)]
    pub ifname: Option<String>,
    /// Another plugin of the folder than the one under test.
    #[serde(rename = "type", default)]
    pub plugin: Option<String>,
    /// `cniVersion` of the configuration; `null` leaves it out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
    /// Changes to the profile's configuration, as a JSON merge patch (RFC 7396). An object with
    /// `$replace: true` takes the place of what is there, and is not merged with it.
    #[serde(default)]
    pub with: Option<Value>,
    /// A configuration in place of the profile's.
    #[serde(default)]
    pub config: Option<Value>,
    /// Standard input as it is, in place of a configuration.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Environment variables; `null` leaves one out.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// `prevResult`. By default DEL and CHECK get what the last ADD of this container and interface
    /// answered, and the ADD of a chained plugin the result of the interface that stands before it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<Value>,
    /// The valid attachments of a GC, each `CONTAINER` or `CONTAINER/IFNAME`; `"null"` stands for a
    /// list that is null; absent: no such key.
    #[serde(default)]
    pub valid: Option<Value>,
    /// What must come of it.
    #[serde(default, deserialize_with = "expectation_or_outcome")]
    pub expect: Expectation,
}

/// What must come of a call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// Success by default.
    #[serde(default)]
    pub outcome: Outcome,
    /// The error code: one, or a list of those allowed.
    #[serde(default)]
    pub code: Option<Value>,
    /// A pattern for the error object.
    #[serde(default)]
    pub error: Option<Value>,
    /// A pattern for the result.
    #[serde(default)]
    pub result: Option<Value>,
    /// The result has the form that its version of the specification gives it.
    #[serde(default)]
    pub well_formed: bool,
    /// Nothing is printed on standard output.
    #[serde(default)]
    pub silent: bool,
    /// An expression that is found in standard error.
    #[serde(default)]
    pub stderr: Option<String>,
    /// Seconds in which the plugin must have ended.
    #[serde(default)]
    pub within: Option<f64>,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Exit code 0.
    #[default]
    Success,
    /// Another exit code, with an error object on standard output.
    Failure,
    /// Either.
    Any,
}

/// An operation that a runtime is asked for, by the command line that its profile has for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// ADD, DEL, CHECK, GC or STATUS.
    #[serde(rename = "do")]
    pub command: String,
    /// The container that it is for.
    #[serde(rename = "in", default = "first_container")]
    pub container: String,
    /// The network's name; that of every case where it is absent.
    #[serde(default)]
    pub network: Option<String>,
    /// Environment variables of the command line: `CNI_IFNAME`, `CNI_ARGS`, `CAP_ARGS`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How it ends.
    #[serde(default)]
    pub expect: Outcome,
    /// An expression that is found in what it prints on standard output or standard error.
    #[serde(default)]
    pub prints: Option<String>,
}

/// A configuration list, with `cniVersion` and `name` put in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// The network's name; that of every case where it is absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Its plugins.
    #[serde(default)]
    pub plugins: Option<Value>,
    /// Further keys of the list, as a JSON merge patch.
    #[serde(default)]
    pub with: Option<Value>,
}

/// Calls at the same time, for containers that are made for it: `p0`, `p1`, …
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parallel {
    /// How many.
    pub count: usize,
    /// What each of them executes.
    #[serde(deserialize_with = "call_or_command")]
    pub call: Call,
}

/// A command line for `sh -c`, run on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// The line.
    pub line: String,
    /// A pattern for the JSON that it prints.
    #[serde(default)]
    pub json: Option<Value>,
    /// An expression that is found in what it prints.
    #[serde(default)]
    pub prints: Option<String>,
    /// Its exit code is not looked at.
    #[serde(default)]
    pub may_fail: bool,
}

/// A plugin of the suite's own under a name in `CNI_PATH`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Double {
    /// Its name, for `type`.
    pub name: String,
    /// What it answers, by `CNI_COMMAND`; a command without an entry succeeds silently.
    #[serde(default)]
    pub answers: BTreeMap<String, Answer>,
}

/// What a plugin of the suite's own does when it is called.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// The JSON that it prints. `cniVersion` is added; `$CNI_IFNAME` and `$CNI_NETNS` in it stand for
    /// those of the call.
    #[serde(default)]
    pub stdout: Option<Value>,
    /// What it prints on standard error.
    #[serde(default)]
    pub stderr: Option<String>,
    /// Its exit code.
    #[serde(default)]
    pub exit: i32,
}

/// A file to be written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Write {
    /// Where; folders are made.
    pub path: String,
    /// What.
    pub content: String,
}

impl Step {
    /// All patterns of this step, to be checked for mistakes.
    pub(crate) fn patterns(&self) -> Vec<&Value> {
        match self {
            Self::Call(call) | Self::Parallel(Parallel { call, .. }) => {
                [&call.expect.error, &call.expect.result].into_iter().flatten().collect()
            }
            Self::Run(run) => run.json.iter().collect(),
            Self::Link(look) | Self::Address(look) | Self::Route(look) | Self::Rule(look) => {
                look.is.iter().collect()
            }
            Self::File(look) => look.json.iter().collect(),
            Self::Recorded(recorded) => vec![&recorded.calls],
            Self::Value(look) => vec![&look.is],
            _ => Vec::new(),
        }
    }
}

impl Call {
    /// A call of `command` with everything by default.
    #[must_use]
    pub fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            container: first_container(),
            ifname: None,
            plugin: None,
            version: None,
            with: None,
            config: None,
            stdin: None,
            env: BTreeMap::new(),
            prev_result: None,
            valid: None,
            expect: Expectation::default(),
        }
    }
}

/// A key that is there, even if it holds `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads `{key: VALUE}`, or what the short form `SHORT` stands for.
fn short_form<'de, D, T>(deserializer: D, key: &str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = match Value::deserialize(deserializer)? {
        short @ Value::String(_) => Value::Object(Map::from_iter([(key.to_owned(), short)])),
        long => long,
    };
    serde_json::from_value(value).map_err(serde::de::Error::custom)
}

fn call_or_command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Call, D::Error> {
    short_form(deserializer, "do")
}

fn operation_or_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Operation, D::Error> {
    short_form(deserializer, "do")
}

fn run_or_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Run, D::Error> {
    short_form(deserializer, "line")
}

fn expectation_or_outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Expectation, D::Error> {
    short_form(deserializer, "outcome")
}

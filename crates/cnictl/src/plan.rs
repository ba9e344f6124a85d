//! `--dry-run`: the calls of plugins, as shell lines for people and as JSON for programs.

use cni_core::delegate;
use cni_core::request::Request;
use cni_core::spec::{Error, Result};
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::output::Output;

/// Prints calls that would be made.
///
/// # Errors
/// A configuration without a plugin's type.
pub(crate) fn show(requests: &[Request], output: &Output) -> Result<Outcome> {
    let calls: Vec<Call> = requests.iter().map(Call::of).collect::<Result<_>>()?;
    if output.is_json() {
        output.json(&calls.iter().map(Call::to_json).collect());
    } else {
        for (i, call) in calls.iter().enumerate() {
            output.print(&format!("# {} of {}: {}", i + 1, calls.len(), call.heading()));
            output.print(&call.to_shell());
        }
    }
    Ok(if calls.iter().all(|call| call.file.is_ok()) { Outcome::Good } else { Outcome::Findings })
}

/// One call of a plugin.
struct Call {
    plugin: String,
    file: Result<String>,
    variables: Vec<(&'static str, String)>,
    input: Value,
}

impl Call {
    fn of(request: &Request) -> Result<Call> {
        let plugin = request.conf.plugin_type.clone();
        let plugin = plugin.ok_or_else(|| Error::invalid_config("a plugin has no type"))?;
        let variables = request.env.variables().into_iter();
        let variables = variables.filter_map(|(name, value)| Some((name, value?.into_string().ok()?)));
        Ok(Call {
            file: delegate::find(&plugin, &request.env.path).map(|file| file.display().to_string()),
            plugin: plugin.to_string(),
            variables: variables.filter(|(_, value)| !value.is_empty()).collect(),
            input: serde_json::from_slice(&request.text).unwrap_or_default(),
        })
    }

    fn heading(&self) -> String {
        let needs_result = self.variables.contains(&("CNI_COMMAND", "ADD".to_owned()));
        let note = if needs_result { ", with the result of the one before as \"prevResult\"" } else { "" };
        match &self.file {
            Ok(_) => format!("{}{note}", self.plugin),
            Err(err) => format!("{}: {err}", self.plugin),
        }
    }

    fn to_shell(&self) -> String {
        let variables: String =
            self.variables.iter().map(|(name, value)| format!("{name}={} ", quoted(value))).collect();
        let file = self.file.as_deref().unwrap_or(&self.plugin);
        format!("{variables}{} <<'EOF'\n{:#}\nEOF", quoted(file), self.input)
    }

    fn to_json(&self) -> Value {
        let variables: Map<String, Value> =
            self.variables.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "plugin": self.plugin, "file": self.file.as_ref().ok(), "environment": variables,
            "input": self.input,
        })
    }
}

/// A word as the shell needs it.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

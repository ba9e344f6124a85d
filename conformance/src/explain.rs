//! A case in words.

use crate::case::{Call, Case, Look, Operation, Outcome, Step};
use serde_json::Value;
use std::fmt::Write as _;

/// The whole of a case: text, given, when, then.
#[must_use]
pub fn case(case: &Case) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{text}");
    };
    line(&format!("{}  {}", case.id, case.title));
    let kinds: Vec<String> = case.kind.iter().map(name).collect();
    let plugin = case.plugin.as_deref().map(|plugin| format!(" plugin {plugin},")).unwrap_or_default();
    let versions = match (case.versions.to_string().as_str(), case.each) {
        ("", false) => "the newest version".to_owned(),
        ("", true) => "every version".to_owned(),
        (range, false) => format!("the newest version of {range}"),
        (range, true) => format!("every version of {range}"),
    };
    line(&format!("  {},{plugin} for {}, in {versions}", name(&case.level), kinds.join(", ")));
    if let Some(feature) = &case.feature {
        line(&format!("  counts where the profile claims `{feature}`"));
    }
    line(&format!("\n  {}\n  {}", case.requirement.trim(), case.text));
    for (title, steps) in [("given", &case.given), ("when", &case.when), ("then", &case.then)] {
        if !steps.is_empty() {
            line(&format!("\n  {title}"));
            for (index, one) in steps.iter().enumerate() {
                line(&format!("    {}. {}", index + 1, step(one)));
            }
        }
    }
    let needs = [&case.needs.kernel, &case.needs.programs, &case.needs.plugins];
    let needs: Vec<&str> = needs.into_iter().flatten().map(String::as_str).collect();
    if !needs.is_empty() {
        line(&format!("\n  needs {}", needs.join(", ")));
    }
    out
}

/// One step on one line.
#[must_use]
pub fn step(step: &Step) -> String {
    match step {
        Step::Call(one) => call(one),
        Step::Parallel(parallel) => format!("{} times at once: {}", parallel.count, call(&parallel.call)),
        Step::Runtime(one) => operation(one),
        Step::Network(network) => {
            let plugins = network.plugins.as_ref().map(|plugins| format!(" with the plugins {plugins}"));
            let with = network.with.as_ref().map(|with| format!(" and {with}")).unwrap_or_default();
            format!(
                "the network {} is configured{}{with}",
                network.name.as_deref().unwrap_or("of the case"),
                plugins.unwrap_or_default()
            )
        }
        Step::Run(run) => format!("run `{}`{}", run.line, pattern(run.json.as_ref())),
        Step::Double(double) => format!("the suite's own plugin `{}` stands in CNI_PATH", double.name),
        Step::Write(write) => format!("write {}", write.path),
        Step::Link(one) => look("link", one),
        Step::Address(one) => look("address", one),
        Step::Route(one) => look("route", one),
        Step::Rule(one) => look("rule", one),
        Step::File(file) if file.absent => format!("no file {}", file.path),
        Step::File(file) => {
            let holds = file.holds.as_ref().map(|text| format!(" holding /{text}/")).unwrap_or_default();
            format!("the file {}{holds}{}", file.path, pattern(file.json.as_ref()))
        }
        Step::Reach(reach) => {
            let verb = if reach.fails { "does not reach" } else { "reaches" };
            format!("{} {verb} {} in {}", reach.from, reach.address, reach.to)
        }
        Step::Unchanged(unchanged) => format!("{} is as it was before", unchanged.namespace),
        Step::Recorded(recorded) => {
            let who = recorded.by.as_deref().unwrap_or("the suite's own plugins");
            format!("the calls of {who} are{}", pattern(Some(&recorded.calls)))
        }
        Step::Value(value) => format!("{} is{}", value.of, pattern(Some(&value.is))),
        Step::Distinct(values) => format!("all different: {}", values.join(", ")),
    }
}

fn call(call: &Call) -> String {
    let mut text = format!("{} for {}", call.command, call.container);
    if let Some(ifname) = &call.ifname {
        let _ = write!(text, " ({ifname})");
    }
    if let Some(plugin) = &call.plugin {
        let _ = write!(text, " by {plugin}");
    }
    for (label, value) in
        [("with", &call.with), ("version", &call.version), ("prevResult", &call.prev_result)]
    {
        if let Some(value) = value {
            let _ = write!(text, ", {label} {value}");
        }
    }
    for (name, value) in &call.env {
        let value = value.as_ref().map_or("unset".to_owned(), |value| format!("{value:?}"));
        let _ = write!(text, ", {name} {value}");
    }
    if let Some(stdin) = &call.stdin {
        let _ = write!(text, ", standard input {stdin:?}");
    }
    if let Some(valid) = &call.valid {
        let _ = write!(text, ", valid attachments {valid}");
    }
    let _ = match call.expect.outcome {
        Outcome::Success => write!(text, " succeeds"),
        Outcome::Failure => write!(text, " fails"),
        Outcome::Any => write!(text, " ends"),
    };
    if let Some(code) = &call.expect.code {
        let _ = write!(text, " with code {code}");
    }
    text
}

fn operation(operation: &Operation) -> String {
    let mut text = format!("the runtime does {} for {}", operation.command, operation.container);
    if let Some(network) = &operation.network {
        let _ = write!(text, " of the network {network}");
    }
    for (name, value) in &operation.env {
        let _ = write!(text, ", {name} {value:?}");
    }
    text.push_str(match operation.expect {
        Outcome::Success => " and succeeds",
        Outcome::Failure => " and fails",
        Outcome::Any => "",
    });
    text
}

fn look(what: &str, look: &Look) -> String {
    let article = if look.absent { "no" } else { "a" };
    let dev = look.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{article} {what}{dev} in {}{}", look.namespace, pattern(look.is.as_ref()))
}

fn pattern(value: Option<&Value>) -> String {
    value.map(|value| format!(" like {value}")).unwrap_or_default()
}

fn name<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}

//! A case as the lines that a person would type: `run --dry-run`.

use crate::case::{Call, Kind, Look, Operation, Step};
use crate::explain;
use crate::plan::Item;
use crate::variables::{expand, expand_text};
use crate::worker::{attachment_environment, quote_for_shell as quote, request, runtime};
use serde_json::{Value, json};
use std::path::Path;

/// Stands for a result of an earlier call until the line is quoted.
const RESULT: &str = "@result-of:";

/// All lines of one run of a case.
#[must_use]
pub fn lines(item: &Item<'_>, plugins: &Path) -> Vec<String> {
    let mut lines = vec![format!(
        "# {} for {}, version {}: {}",
        item.case.id, item.profile.name, item.version, item.case.title
    )];
    if let Some(reason) = &item.skip {
        lines.push(format!("# skipped: {reason}"));
    }
    lines.extend(item.case.containers.iter().map(|name| format!("ip netns add {name}")));
    lines.extend(item.profile.before.iter().map(|line| text(line, item)));
    for container in &item.case.containers {
        lines.extend(
            item.profile.container.iter().map(|line| text(&line.replace("${container}", container), item)),
        );
    }
    if item.profile.kind == Kind::Chained {
        lines.push("# an interface eth0 with addresses stands in each container".to_owned());
    }
    for step in item.case.given.iter().chain(&item.case.when).chain(&item.case.then) {
        lines.extend(step_lines(step, item, plugins));
    }
    lines.extend(item.profile.after.iter().map(|line| text(line, item)));
    lines.extend(item.case.containers.iter().map(|name| format!("ip netns del {name}")));
    lines
}

fn step_lines(step: &Step, item: &Item<'_>, plugins: &Path) -> Vec<String> {
    let note = format!("# {}", explain::step(step));
    match step {
        Step::Call(call) => vec![note, call_line(call, item, plugins)],
        Step::Parallel(parallel) => {
            let line = call_line(&parallel.call, item, plugins);
            vec![note, format!("{line} &   # {} times, each for another namespace", parallel.count)]
        }
        Step::Runtime(operation) => vec![note, operation_line(operation, item, plugins)],
        Step::Network(network) => {
            let (file, list) = runtime::configuration(network, item.version);
            vec![note, format!("printf %s {} > {file}", quote(&text(&list.to_string(), item)))]
        }
        Step::Run(run) => vec![text(&run.line, item)],
        Step::Write(write) => {
            vec![format!("printf %s {} > {}", quote(&text(&write.content, item)), text(&write.path, item))]
        }
        Step::Link(look) => vec![note, ip(look, "-d link show")],
        Step::Address(look) => vec![note, ip(look, "address show")],
        Step::Route(look) => vec![note, ip(look, "-d route show table all")],
        Step::Rule(look) => vec![note, ip(look, "rule show")],
        Step::File(file) => vec![note, format!("cat {}", text(&file.path, item))],
        Step::Reach(reach) => {
            let inside =
                if reach.from == "host" { String::new() } else { format!("ip netns exec {} ", reach.from) };
            vec![note, format!("{inside}ping -c 1 {}", text(&reach.address, item))]
        }
        _ => vec![note],
    }
}

fn ip(look: &Look, words: &str) -> String {
    let inside = if look.namespace == "host" { String::new() } else { format!("-n {} ", look.namespace) };
    let dev = look.name.as_ref().filter(|_| !words.starts_with("rule")).map(|name| format!(" dev {name}"));
    format!("ip -j {inside}{words}{}", dev.unwrap_or_default())
}

fn call_line(call: &Call, item: &Item<'_>, plugins: &Path) -> String {
    let netns = format!("/run/netns/{}", call.container);
    let mut env = attachment_environment(call, item.profile, &netns, &plugins.display().to_string());
    for (name, value) in &call.env {
        match value {
            Some(value) => drop(env.insert(name.clone(), text(value, item))),
            None => drop(env.remove(name)),
        }
    }
    let file = format!("{}-{}.json", call.container, call.ifname.as_ref().unwrap_or(&item.profile.ifname));
    let previous = match (&call.prev_result, call.command.as_str()) {
        (Some(given), _) => (given != "none").then(|| given.clone()),
        (None, "DEL" | "CHECK") => Some(json!(format!("{RESULT}{file}"))),
        (None, "ADD") if item.profile.kind == Kind::Chained => Some(json!(format!("{RESULT}before-{file}"))),
        _ => None,
    };
    let stdin = call.stdin.clone().unwrap_or_else(|| {
        let config = request(call, item.profile, item.version, previous);
        expand(&config, &|name| known(name, item)).unwrap_or(config).to_string()
    });
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    let plugin = call.plugin.as_deref().unwrap_or(&item.profile.plugin);
    let keep = if call.command == "ADD" { format!(" | tee {file}") } else { String::new() };
    format!(
        "printf %s {} | env {} {}{keep}",
        results(&quote(&stdin)),
        env.join(" "),
        plugins.join(plugin).display()
    )
}

/// The command line of a runtime, with its environment.
fn operation_line(operation: &Operation, item: &Item<'_>, plugins: &Path) -> String {
    let line = item.profile.commands.get(&operation.command).map(String::as_str).unwrap_or_default();
    let known = |name: &str| match name {
        "plugins" => Some(json!(plugins)),
        _ => runtime::variable(operation, name).or_else(|| known(name, item)),
    };
    let line = expand_text(line, &known).unwrap_or_else(|_| line.to_owned());
    let env = runtime::environment(operation, &item.profile.ifname);
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("env {} sh -c {}", env.join(" "), quote(line.trim()))
}

/// Lets the shell put in the file that an earlier line wrote.
fn results(quoted: &str) -> String {
    let mark = format!("\"{RESULT}");
    let mut parts = quoted.split(&mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (file, rest) = part.split_once('"').unwrap_or((part, ""));
        out.push_str(&format!("'\"$(cat {file})\"'{rest}"));
    }
    out
}

/// Variables that have a value before anything is run; the others stay as they are.
fn known(name: &str, item: &Item<'_>) -> Option<Value> {
    Some(match (name, name.split_once('.')) {
        ("dir", _) => json!("/tmp"),
        ("doubles", _) => json!(crate::double::FOLDER),
        ("unique", _) => json!("conformance"),
        ("network", _) => json!("conformance-net"),
        ("version", _) => json!(item.version),
        ("type", _) => json!(item.profile.plugin),
        (_, Some((container, "netns"))) => json!(format!("/run/netns/{container}")),
        (_, Some((container, "id"))) => json!(format!("conformance-{container}")),
        _ => json!(format!("<{name}>")),
    })
}

fn text(text: &str, item: &Item<'_>) -> String {
    expand_text(text, &|name| known(name, item)).unwrap_or_else(|_| text.to_owned())
}

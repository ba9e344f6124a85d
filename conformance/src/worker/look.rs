//! Looks at the kernel and at files. The kernel is read by `ip`, which shares no code with any plugin,
//! and whose JSON is what the patterns of cases are written for.

use super::sandbox::{self, shell};
use super::stop::Stop;
use crate::Result;
use crate::case::{FileLook, Look, Run};
use crate::pattern::{self, Difference};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A `run` step.
pub(crate) fn run(run: &Run) -> Result<(), Stop> {
    let printed = match shell(&run.line) {
        Ok(printed) => printed,
        Err(_) if run.may_fail => return Ok(()),
        Err(error) => return Err(Stop::Broken(error)),
    };
    if let Some(expected) = &run.json {
        let value = serde_json::from_str(&printed)
            .map_err(|error| format!("`{}` did not print JSON: {error}", run.line))?;
        pattern::compare(expected, &value)
            .map_err(|difference| Stop::differs(format!("what `{}` prints differs", run.line), difference))?;
    }
    if let Some(expression) = &run.prints
        && !expression_of(expression)?.is_match(&printed)
    {
        let difference = Difference {
            path: String::new(),
            expected: format!("/{expression}/"),
            actual: printed.trim().to_owned(),
        };
        return Err(Stop::differs(format!("`{}` prints something else", run.line), difference));
    }
    Ok(())
}

/// A `link` step.
pub(crate) fn link(look: &Look) -> Result<(), Stop> {
    let entries = links(&look.namespace)?;
    let named =
        entries.into_iter().filter(|link| look.name.as_ref().is_none_or(|name| link["ifname"] == **name));
    judge(look, named.collect(), look.is.as_ref(), "link")
}

/// An `address` step.
pub(crate) fn address(look: &Look) -> Result<(), Stop> {
    let pattern = look.is.as_ref().map(|is| match is.as_str().and_then(|text| text.split_once('/')) {
        Some((local, length)) => json!({"local": local, "prefixlen": length.parse::<u8>().unwrap_or(255)}),
        None => is.clone(),
    });
    let entries = of_link(addresses(&look.namespace)?, look);
    judge(look, entries, pattern.as_ref(), "address")
}

/// A `route` step. Routes that the kernel makes for an address (local, broadcast, multicast) don't
/// count unless the pattern names their type.
pub(crate) fn route(look: &Look) -> Result<(), Stop> {
    let pattern = look.is.as_ref().map(|is| match is {
        Value::String(dst) => json!({ "dst": dst }),
        other => other.clone(),
    });
    let any_type = pattern.as_ref().is_some_and(|pattern| pattern.get("type").is_some());
    let entries = of_link(routes(&look.namespace)?, look);
    let counted = entries.into_iter().filter(|route| any_type || route["type"] == "unicast");
    judge(look, counted.collect(), pattern.as_ref(), "route")
}

/// A `rule` step.
pub(crate) fn rule(look: &Look) -> Result<(), Stop> {
    judge(look, rules(&look.namespace)?, look.is.as_ref(), "rule")
}

/// The links of a namespace.
pub(crate) fn links(namespace: &str) -> Result<Vec<Value>> {
    ip(namespace, "-d link show")
}

/// Its addresses, each with the link's name as `dev`.
pub(crate) fn addresses(namespace: &str) -> Result<Vec<Value>> {
    let mut addresses = Vec::new();
    for link in ip(namespace, "address show")? {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let mut address = address.clone();
            address["dev"] = link["ifname"].clone();
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Its routes of all tables and both families, each with `family`, `table` and `type`.
pub(crate) fn routes(namespace: &str) -> Result<Vec<Value>> {
    let mut routes = Vec::new();
    for (option, family) in [("-4", "inet"), ("-6", "inet6")] {
        for mut route in ip(namespace, &format!("-d {option} route show table all"))? {
            route["family"] = json!(family);
            for (key, default) in [("table", "main"), ("type", "unicast")] {
                if route[key].is_null() {
                    route[key] = json!(default);
                }
            }
            routes.push(route);
        }
    }
    Ok(routes)
}

/// Its rules of both families, each with `family`.
pub(crate) fn rules(namespace: &str) -> Result<Vec<Value>> {
    let mut rules = Vec::new();
    for (option, family) in [("-4", "inet"), ("-6", "inet6")] {
        for mut rule in ip(namespace, &format!("{option} rule show"))? {
            rule["family"] = json!(family);
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// What `ip -j` prints, without the empty objects that stand for what was filtered out.
fn ip(namespace: &str, words: &str) -> Result<Vec<Value>> {
    let mut ip = sandbox::ip_in(namespace);
    ip.arg("-j").args(words.split(' '));
    let printed = sandbox::printed(ip, &format!("ip -j {words}"))?;
    if printed.trim().is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<Value> = serde_json::from_str(&printed)
        .map_err(|error| format!("ip {words} did not print a list: {error}"))?;
    Ok(list.into_iter().filter(|entry| entry.as_object().is_some_and(|object| !object.is_empty())).collect())
}

fn of_link(entries: Vec<Value>, look: &Look) -> Vec<Value> {
    let wanted = |entry: &Value| look.name.as_ref().is_none_or(|name| entry["dev"] == **name);
    entries.into_iter().filter(wanted).collect()
}

/// Compares the number of entries that match with the number that is wanted.
fn judge(look: &Look, entries: Vec<Value>, pattern: Option<&Value>, what: &str) -> Result<(), Stop> {
    let matches = |entry: &&Value| pattern.is_none_or(|pattern| pattern::compare(pattern, entry).is_ok());
    let matching: Vec<&Value> = entries.iter().filter(matches).collect();
    let place = match &look.name {
        Some(name) => format!("{name} in {}", look.namespace),
        None => look.namespace.clone(),
    };
    let wanted = pattern.map_or_else(|| format!("a {what}"), |pattern| format!("a {what} like {pattern}"));
    let differs = |message: String, expected: String, actual: String| {
        Err(Stop::differs(message, Difference { path: String::new(), expected, actual }))
    };
    if look.absent {
        return match matching.first() {
            Some(found) => differs(
                format!("a {what} is there that should not be ({place})"),
                "none".to_owned(),
                found.to_string(),
            ),
            None => Ok(()),
        };
    }
    if let Some(count) = look.count
        && matching.len() != count
    {
        let actual = format!("{}: {}", matching.len(), json!(matching));
        return differs(
            format!("another number of {what}s ({place})"),
            format!("{count} of {wanted}"),
            actual,
        );
    }
    if !matching.is_empty() || look.count == Some(0) {
        return Ok(());
    }
    match (&entries[..], pattern) {
        // One candidate: its first difference says more than all of it.
        ([only], Some(pattern)) => match pattern::compare(pattern, only) {
            Err(difference) => Err(Stop::differs(format!("the {what} differs ({place})"), difference)),
            Ok(()) => Ok(()),
        },
        ([], _) => differs(format!("the {what} is absent ({place})"), wanted, format!("no {what}")),
        _ => differs(format!("the {what} is absent ({place})"), wanted, json!(entries).to_string()),
    }
}

/// A `file` step.
pub(crate) fn file(look: &FileLook) -> Result<(), Stop> {
    let namespace = look.namespace.as_deref().unwrap_or("host");
    let found = sandbox::inside(namespace, || matching_files(Path::new(&look.path)))??;
    let path = &look.path;
    if look.absent {
        return match found.first() {
            Some(found) => Err(Stop::failed(format!("{} is there and should not be", found.display()))),
            None => Ok(()),
        };
    }
    let Some(file) = found.first() else {
        return Err(Stop::failed(format!("{path} is not there")));
    };
    if look.holds.is_none() && look.json.is_none() {
        return Ok(());
    }
    let content = sandbox::inside(namespace, || fs::read_to_string(file))?
        .map(|content| content.trim_end().to_owned())
        .map_err(|error| Stop::failed(format!("{} can't be read: {error}", file.display())))?;
    if let Some(expression) = &look.holds
        && !expression_of(expression)?.is_match(&content)
    {
        let difference = Difference {
            path: String::new(),
            expected: format!("/{expression}/"),
            actual: content.trim().to_owned(),
        };
        return Err(Stop::differs(format!("{path} holds something else"), difference));
    }
    if let Some(expected) = &look.json {
        let value = serde_json::from_str(&content)
            .map_err(|error| Stop::failed(format!("{path} does not hold JSON: {error}")))?;
        pattern::compare(expected, &value)
            .map_err(|difference| Stop::differs(format!("{path} holds something else"), difference))?;
    }
    Ok(())
}

/// The files that a path stands for; `*` is anything in one name.
fn matching_files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let part = part.as_os_str().to_string_lossy().into_owned();
        if !part.contains('*') {
            found.iter_mut().for_each(|path| path.push(&part));
            continue;
        }
        let expression = expression_of(&format!("^{}$", regex_lite::escape(&part).replace(r"\*", ".*")))?;
        found = found
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
            .filter(|entry| expression.is_match(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found.sort();
    Ok(found)
}

/// An expression of a case.
pub(crate) fn expression_of(text: &str) -> Result<regex_lite::Regex> {
    regex_lite::Regex::new(text).map_err(|error| format!("{text:?} is not an expression: {error}"))
}

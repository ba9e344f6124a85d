//! All cases: read from their files, checked for mistakes, found by id.

use crate::case::{Case, Kind, Level};
use crate::embedded::CASES;
use crate::{Result, pattern};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A file of cases, with what they have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    /// The text that they are of. A case's `at` is put behind it.
    text: String,
    /// Keys that a case of this file has if it doesn't have them itself.
    #[serde(default)]
    common: Map<String, Value>,
    cases: Vec<Map<String, Value>>,
}

/// The cases that are part of the program, in the order of their files.
///
/// # Errors
/// A case is invalid: the suite is broken.
pub fn embedded() -> Result<Vec<Case>> {
    read(CASES)
}

/// The cases of these files (name, content).
///
/// # Errors
/// A file is not YAML, a case is not of the form that [`Case`] has, or an id comes twice.
pub fn read(files: &[(&str, &str)]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut ids = BTreeSet::new();
    for (name, content) in files {
        for case in read_file(content).map_err(|error| format!("{name}: {error}"))? {
            if !ids.insert(case.id.clone()) {
                return Err(format!("{name}: the id {} comes twice", case.id));
            }
            check(&case).map_err(|error| format!("{name}: {}: {error}", case.id))?;
            cases.push(case);
        }
    }
    Ok(cases)
}

fn read_file(content: &str) -> Result<Vec<Case>> {
    let file: File = serde_saphyr::from_str(content).map_err(|error| error.to_string())?;
    file.cases.into_iter().map(|case| read_case(&file.text, &file.common, case)).collect()
}

fn read_case(text: &str, common: &Map<String, Value>, mut case: Map<String, Value>) -> Result<Case> {
    let id = case.get("id").cloned().unwrap_or_default();
    for (key, value) in common {
        case.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let place = case.remove("at");
    let place = place.as_ref().and_then(Value::as_str);
    case.entry("text").or_insert_with(|| match place {
        Some(lines) => Value::String(format!("{text}#{lines}")),
        None => Value::String(text.to_owned()),
    });
    serde_json::from_value(Value::Object(case)).map_err(|error| format!("{id}: {error}"))
}

/// Mistakes that the types don't show.
fn check(case: &Case) -> Result<()> {
    let parts: Vec<&str> = case.id.split('/').collect();
    let [_, _, number] = parts[..] else {
        return Err("an id has the form VERSION/SECTION/NUMBER".to_owned());
    };
    if number.parse::<u32>().is_err() {
        return Err(format!("{number:?} is not a number"));
    }
    if case.level == Level::Documented && case.plugin.is_none() {
        return Err("documented behaviour is of one plugin".to_owned());
    }
    if case.then.is_empty() && case.when.is_empty() {
        return Err("nothing is looked at".to_owned());
    }
    if case.kind.contains(&Kind::Any) && case.kind.len() > 1 {
        return Err("the kind `any` has the others in it".to_owned());
    }
    for step in case.given.iter().chain(&case.when).chain(&case.then) {
        for pattern in step.patterns() {
            if let Some(unknown) = pattern::unknown_conditions(pattern).first() {
                return Err(format!("there is no condition {unknown}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str =
        "{id: 1.1/add/1, level: must, kind: any, title: t, requirement: r, when: [{call: ADD}]}";

    fn error(content: &str) -> String {
        read(&[("f.yaml", content)]).expect_err("this must be refused")
    }

    #[test]
    fn the_embedded_cases_are_valid() {
        assert!(!embedded().unwrap().is_empty());
    }

    #[test]
    fn a_mistake_is_named_with_file_and_id() {
        let twice = error(&format!("{{text: x, cases: [{CASE}, {CASE}]}}"));
        assert_eq!(twice, "f.yaml: the id 1.1/add/1 comes twice");
        let unknown = error(&format!("{{text: x, cases: [{}]}}", CASE.replace("title", "titel")));
        assert!(unknown.contains("1.1/add/1") && unknown.contains("titel"), "{unknown}");
        let condition = CASE.replace("call: ADD", "call: {do: ADD, expect: {result: {$regexp: x}}}");
        assert!(error(&format!("{{text: x, cases: [{condition}]}}")).contains("no condition $regexp"));
        let documented = CASE.replace("must", "documented");
        assert!(error(&format!("{{text: x, cases: [{documented}]}}")).contains("of one plugin"));
    }

    #[test]
    fn what_is_common_in_a_file_need_not_be_repeated() {
        let content =
            format!("{{text: t, common: {{feature: f}}, cases: [{}]}}", CASE.replace("when", "at: L1, when"));
        let cases = read(&[("f.yaml", &content)]).unwrap();
        assert_eq!((cases[0].feature.as_deref(), cases[0].text.as_str()), (Some("f"), "t#L1"));
    }
}

//! NetworkAttachmentDefinitions, as YAML or JSON.

use cni_core::spec::NetworkName;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::Finding;
use super::network::{self, Origin};
use super::source::{Place, Source, place_of};
use super::unknown::nearest;
use crate::node::Node;

const KIND: &str = "NetworkAttachmentDefinition";
const API_VERSION: &str = "k8s.cni.cncf.io/v1";

/// The longest configuration in a definition, in bytes: that which multus takes.
const MAX_CONFIG: usize = 1536 << 10;

/// An object of Kubernetes, as far as it matters here.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Option<Spec>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    config: Option<Spanned<String>>,
}

/// All that there is to say of the definitions in a text. Other objects in it are not looked at.
pub(crate) fn check(node: &Node, text: &str) -> Vec<Finding> {
    let options = || {
        serde_saphyr::options! {
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
            with_snippet: false,
        }
    };
    let objects = serde_saphyr::from_multiple_with_options::<Object>(text, options());
    let values = serde_saphyr::from_multiple_with_options::<Value>(text, options());
    let (objects, values) = match (objects, values) {
        (Ok(objects), Ok(values)) => (objects, values),
        (Err(err), _) | (_, Err(err)) => return vec![of_error(&err)],
    };
    let mut findings = Vec::new();
    let mut found = false;
    for (object, value) in objects.iter().zip(&values) {
        if object.kind == KIND {
            found = true;
            of_definition(node, text, object, value, &mut findings);
        }
    }
    if !found {
        let message = format!("neither a network configuration (a JSON object) nor a {KIND}");
        findings.push(Finding::wrong(Place { line: 1, column: 1 }, message));
    }
    findings
}

fn of_error(err: &serde_saphyr::Error) -> Finding {
    let message = err.to_string();
    Finding::wrong(
        err.location().as_ref().map(place),
        format!("not valid YAML: {}", message.lines().next().unwrap_or_default()),
    )
}

fn of_definition(node: &Node, text: &str, object: &Object, value: &Value, findings: &mut Vec<Finding>) {
    let of_key = |key: &str| key_place(text, key);
    if object.api_version != API_VERSION {
        let message = format!("apiVersion is {:?}, not {API_VERSION:?}", object.api_version);
        findings.push(Finding::wrong(of_key("apiVersion"), message));
    }
    unknown(value, &["apiVersion", "kind", "metadata", "spec"], text, findings);
    unknown(&value["spec"], &["config"], text, findings);
    let name = name_of(object, findings);
    let Some(config) = object.spec.as_ref().and_then(|spec| spec.config.as_ref()) else {
        let message =
            "no spec.config: multus takes the configuration of this name in its confDir on each node";
        findings.push(Finding::remark(None, message));
        return;
    };
    if config.value.len() > MAX_CONFIG {
        let message = format!("spec.config is longer than {} KiB", MAX_CONFIG >> 10);
        findings.push(Finding::wrong(of_key("config"), message));
        return;
    }
    let source = Source::embedded(text, place(&config.referenced), config.value.clone());
    findings.extend(network::check(node, &source, &Origin::Inside(Some(name))));
}

/// The name, which a configuration without one gets; where it is wrong, another one stands for it.
fn name_of(object: &Object, findings: &mut Vec<Finding>) -> NetworkName {
    let stand_in = || "network".parse().expect("it is a name");
    let Some(name) = &object.metadata.name else {
        findings.push(Finding::wrong(None, "no metadata.name"));
        return stand_in();
    };
    name.value.parse().unwrap_or_else(|err| {
        findings.push(Finding::wrong(place(&name.referenced), format!("metadata.name: {err}")));
        stand_in()
    })
}

fn place(at: &serde_saphyr::Location) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Place { line: number(at.line()), column: number(at.column()) }
}

fn unknown(object: &Value, known: &[&str], text: &str, findings: &mut Vec<Finding>) {
    let keys = object.as_object().into_iter().flat_map(|object| object.keys());
    for key in keys.filter(|key| !known.contains(&key.as_str()) && key.as_str() != "status") {
        let near = nearest(key, known.iter().copied());
        let near = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
        findings.push(Finding::wrong(key_place(text, key), format!("unknown key {key:?}{near}")));
    }
}

/// Where a key stands for the first time at the start of a line or in quotes.
fn key_place(text: &str, key: &str) -> Option<Place> {
    let is_start = |at: &usize| {
        let before = text[..*at].trim_end_matches([' ', '"', '-']);
        (before.is_empty() || before.ends_with(['\n', '{', ',']))
            && text[at + key.len()..].trim_start_matches('"').trim_start().starts_with(':')
    };
    let at = text.match_indices(key).map(|(at, _)| at).find(is_start)?;
    Some(place_of(text, at))
}

//! `report.yaml`, in the form of the Gateway API's conformance reports.

use super::{ProfileReport, Report};
use crate::Result;
use crate::case::Level;
use crate::worker::Status;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn render(report: &Report) -> Result<String> {
    let profiles: Vec<Value> = report.profiles.iter().map(profile).collect();
    let value = json!({
        "kind": "ConformanceReport",
        "suiteVersion": report.suite,
        "textCommit": report.text,
        "kernel": report.kernel,
        "mode": if report.is_partial() { "partial" } else { "full" },
        "profiles": profiles,
    });
    serde_saphyr::to_string(&value).map_err(|error| error.to_string())
}

fn profile(profile: &ProfileReport) -> Value {
    let level = |level| {
        json!({
            "passed": profile.count(level, Status::Passed),
            "failed": profile.count(level, Status::Failed),
            "skipped": profile.count(level, Status::Skipped),
        })
    };
    let failed = |level: Level| profile.count(level, Status::Failed) + profile.count(level, Status::Broken);
    let result = if profile.entries.is_empty() {
        "none"
    } else if failed(Level::Must) + failed(Level::Documented) > 0 {
        "failure"
    } else if profile.entries.iter().any(|entry| entry.outcome.status == Status::Skipped) {
        "partial"
    } else {
        "success"
    };
    let failures: BTreeSet<String> = profile
        .entries
        .iter()
        .filter(|entry| entry.outcome.status == Status::Failed && entry.claimed)
        .map(|entry| format!("{}@{}", entry.id, entry.version))
        .collect();
    json!({
        "name": profile.name,
        "kind": profile.kind,
        "implementation": profile.implementation,
        "versions": profile.versions,
        "result": result,
        "must": level(Level::Must),
        "should": level(Level::Should),
        "documented": level(Level::Documented),
        "claims": claims(profile),
        "failures": failures,
        "skips": skips(profile),
    })
}

/// Features that all cases of pass, and those that not, whether claimed or not.
fn claims(profile: &ProfileReport) -> Value {
    let mut features: BTreeMap<&str, bool> = BTreeMap::new();
    for entry in &profile.entries {
        if let Some(feature) = &entry.feature
            && matches!(entry.outcome.status, Status::Passed | Status::Failed)
        {
            let passed = entry.outcome.status == Status::Passed;
            *features.entry(feature).or_insert(true) &= passed;
        }
    }
    let which = |wanted: bool| features.iter().filter(move |(_, all)| **all == wanted).map(|(name, _)| *name);
    json!({
        "claimed": profile.claims,
        "supported": which(true).collect::<Vec<_>>(),
        "unsupported": which(false).collect::<Vec<_>>(),
    })
}

fn skips(profile: &ProfileReport) -> BTreeMap<String, usize> {
    let mut skips = BTreeMap::new();
    for entry in profile.entries.iter().filter(|entry| entry.outcome.status == Status::Skipped) {
        *skips.entry(entry.failure().message).or_insert(0) += 1;
    }
    skips
}

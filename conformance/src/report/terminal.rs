//! The report for people.

use super::{Entry, ProfileReport, Report, call_line};
use crate::case::Level;
use crate::worker::Status;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn render(report: &Report, strict: bool, colour: bool) -> String {
    let mut out = String::new();
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    for (profile, entry) in report.all() {
        let title = match entry.outcome.status {
            Status::Failed if entry.is_failure(strict) => paint("31", "FAILED"),
            Status::Failed if entry.claimed => paint("33", "WARNING"),
            Status::Broken => paint("31", "BROKEN"),
            _ => continue,
        };
        failure(&mut out, &title, report, profile, entry);
    }
    skipped(&mut out, report);
    unclaimed(&mut out, report);
    for profile in &report.profiles {
        let counts = |level| {
            let passed = profile.count(level, Status::Passed);
            format!("{passed}/{}", passed + profile.count(level, Status::Failed))
        };
        let _ = writeln!(
            out,
            "{:<14} must {:>7}   should {:>7}   documented {:>7}   skipped {}",
            profile.name,
            counts(Level::Must),
            counts(Level::Should),
            counts(Level::Documented),
            profile.entries.iter().filter(|entry| entry.outcome.status == Status::Skipped).count()
        );
    }
    let with = |status| report.all().filter(|(_, entry)| entry.outcome.status == status).count();
    let failed = report.failures(strict).len();
    let (passed, skipped, broken) = (with(Status::Passed), with(Status::Skipped), with(Status::Broken));
    let others = with(Status::Failed) - failed;
    let summary = format!(
        "{passed} passed, {failed} failed, {others} failed without counting, {skipped} skipped, {broken} broken"
    );
    let colour = if failed + broken > 0 { "31" } else { "32" };
    let _ = writeln!(out, "\n{} in {:.1} s", paint(colour, &summary), report.seconds);
    out
}

/// One failure: what is demanded, where, what was there, and how to see it again.
fn failure(out: &mut String, title: &str, report: &Report, profile: &ProfileReport, entry: &Entry) {
    let found = entry.failure();
    let level = entry.level.as_str();
    let _ =
        writeln!(out, "{title} {} {} ({level}) {}: {}", profile.name, entry.id, entry.version, entry.title);
    let mut line = |label: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {label:<9} {}", text.trim().replace('\n', "\n            "));
        }
    };
    line("text", &entry.requirement);
    line("", &entry.text);
    line("step", &found.step);
    line("found", &found.message);
    line("at", &found.path);
    line("expected", &found.expected);
    line("actual", &found.actual);
    if let Some(call) = &found.call {
        line("stderr", &call.stderr);
    }
    line("call", &call_line(report, &found).unwrap_or_default());
    line("repeat", &report.repeat(profile, entry));
    out.push('\n');
}

/// What was skipped, by reason.
fn skipped(out: &mut String, report: &Report) {
    let mut reasons: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (profile, entry) in report.all().filter(|(_, entry)| entry.outcome.status == Status::Skipped) {
        *reasons.entry((profile.name.clone(), entry.failure().message)).or_default() += 1;
    }
    for ((profile, reason), count) in &reasons {
        let _ = writeln!(out, "skipped: {profile}: {count} because {reason}");
    }
    if !reasons.is_empty() {
        out.push_str("The report is partial.\n\n");
    }
}

/// What the profile does not claim, and whether the plugin has it all the same.
fn unclaimed(out: &mut String, report: &Report) {
    let mut any = false;
    for (profile, entry) in report.all().filter(|(_, entry)| !entry.claimed) {
        let feature = entry.feature.as_deref().unwrap_or_default();
        let status = match entry.outcome.status {
            Status::Passed => "passes",
            Status::Failed => "does not pass",
            _ => continue,
        };
        let _ = writeln!(
            out,
            "not claimed: {}: {} {status} ({feature}: {})",
            profile.name, entry.id, entry.title
        );
        any = true;
    }
    if any {
        out.push('\n');
    }
}

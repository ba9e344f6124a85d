//! Test Anything Protocol, version 14: a line a run, a YAML block below a failure.

use super::{Report, call_line};
use crate::case::Level;
use crate::worker::Status;
use serde_json::Value;
use std::fmt::Write as _;

pub(super) fn render(report: &Report, strict: bool) -> String {
    let mut out = format!("TAP version 14\n1..{}\n", report.all().count());
    for (number, (profile, entry)) in report.all().enumerate() {
        let good = !matches!(entry.outcome.status, Status::Failed | Status::Broken);
        let directive = match entry.outcome.status {
            Status::Skipped => format!(" # SKIP {}", entry.failure().message.replace('\n', " ")),
            // A failure that does not count.
            Status::Failed if !entry.claimed => " # TODO not claimed".to_owned(),
            Status::Failed if entry.level == Level::Should && !strict => " # TODO should".to_owned(),
            _ => String::new(),
        };
        let title = entry.title.replace('#', "\\#");
        let _ = writeln!(
            out,
            "{} {} - {} {}@{} {title}{directive}",
            if good { "ok" } else { "not ok" },
            number + 1,
            profile.name,
            entry.id,
            entry.version
        );
        if good {
            continue;
        }
        let found = entry.failure();
        let call = call_line(report, &found).unwrap_or_default();
        let stderr = found.call.as_ref().map(|call| call.stderr.as_str()).unwrap_or_default();
        // A string of JSON is one of YAML, also for harnesses that read no more than one line a key.
        out.push_str("  ---\n");
        for (key, value) in [
            ("level", entry.level.as_str()),
            ("requirement", &entry.requirement),
            ("reference", &entry.text),
            ("step", &found.step),
            ("message", &found.message),
            ("at", &found.path),
            ("expected", &found.expected),
            ("actual", &found.actual),
            ("stderr", stderr),
            ("call", &call),
            ("repeat", &report.repeat(profile, entry)),
        ] {
            let _ = writeln!(out, "  {key}: {}", Value::from(value));
        }
        out.push_str("  ...\n");
    }
    out
}

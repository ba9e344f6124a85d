//! Test Anything Protocol, version 14: a line a run, a YAML block below a failure.

use super::{Report, call_line};
use crate::Result;
use crate::case::Level;
use crate::worker::Status;
use serde_json::json;
use std::fmt::Write as _;

pub(super) fn render(report: &Report, strict: bool) -> Result<String> {
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
        let block = json!({
            "level": entry.level,
            "requirement": entry.requirement,
            "reference": entry.text,
            "step": found.step,
            "message": found.message,
            "at": found.path,
            "expected": found.expected,
            "actual": found.actual,
            "stderr": found.call.as_ref().map(|call| call.stderr.clone()),
            "call": call_line(report, &found),
            "repeat": report.repeat(profile, entry),
        });
        let yaml = serde_saphyr::to_string(&block).map_err(|error| error.to_string())?;
        out.push_str("  ---\n");
        yaml.lines().for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
        out.push_str("  ...\n");
    }
    Ok(out)
}

//! JUnit's XML: a suite a plugin, a test case a run.

use super::{Entry, Report, call_line};
use crate::worker::Status;
use std::fmt::Write as _;

pub(super) fn render(report: &Report, strict: bool) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for profile in &report.profiles {
        let with = |wanted: &dyn Fn(&&Entry) -> bool| profile.entries.iter().filter(wanted).count();
        let _ = writeln!(
            out,
            r#"  <testsuite name="{}" tests="{}" failures="{}" errors="{}" skipped="{}">"#,
            escape(&profile.name),
            profile.entries.len(),
            with(&|entry| entry.is_failure(strict)),
            with(&|entry| entry.outcome.status == Status::Broken),
            with(&|entry| is_skipped(entry, strict)),
        );
        for entry in &profile.entries {
            let seconds = entry.outcome.milliseconds as f64 / 1000.0;
            let _ = writeln!(
                out,
                r#"    <testcase classname="{}" name="{}" time="{seconds:.3}">"#,
                escape(&profile.name),
                escape(&format!("{}@{} {}", entry.id, entry.version, entry.title)),
            );
            body(&mut out, report, entry, strict);
            out.push_str("    </testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// JUnit has no warning: a failure that does not count is skipped, with its message.
fn is_skipped(entry: &Entry, strict: bool) -> bool {
    match entry.outcome.status {
        Status::Skipped => true,
        Status::Failed => !entry.is_failure(strict),
        _ => false,
    }
}

fn body(out: &mut String, report: &Report, entry: &Entry, strict: bool) {
    let found = entry.failure();
    let message = escape(&found.message);
    if is_skipped(entry, strict) {
        let _ = writeln!(out, r#"      <skipped message="{message}"/>"#);
        return;
    }
    let element = match entry.outcome.status {
        Status::Failed => "failure",
        Status::Broken => "error",
        _ => return,
    };
    let call = call_line(report, &found).unwrap_or_default();
    let text = format!(
        "{}\n{}\nstep: {}\nat: {}\nexpected: {}\nactual: {}\ncall: {call}\n",
        entry.requirement, entry.text, found.step, found.path, found.expected, found.actual
    );
    let _ = writeln!(out, r#"      <{element} message="{message}">{}</{element}>"#, escape(&text));
    if let Some(call) = found.call.filter(|call| !call.stderr.is_empty()) {
        let _ = writeln!(out, "      <system-err>{}</system-err>", escape(&call.stderr));
    }
}

/// Text for XML 1.0, which has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_becomes_xml() {
        assert_eq!(super::escape("a<b & \"c\"\u{1b}\n"), "a&lt;b &amp; &quot;c&quot;\u{fffd}&#10;");
    }
}

//! Lines for a person, on standard error.

use std::fmt;
use std::io::Write;

/// Writes a line to standard error in one write(2). A runtime may have closed it or may not read
/// it any more: that never fails a call, never panics (as `eprintln!` does), and stops no undo.
pub fn note(line: fmt::Arguments<'_>) {
    let mut line = one_line(&line.to_string());
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The text with control characters escaped, so that a name in it can neither forge a line of a log nor
/// control a terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The trace that this process belongs to, from `TRACEPARENT` (W3C Trace Context, section 3.2), as text
/// for log lines and errors: `trace <id> span <id>`. `None` where the variable is absent or malformed.
///
/// Delegates get `TRACEPARENT`, `TRACESTATE` and `BAGGAGE` with the environment of the process.
pub fn trace() -> Option<String> {
    trace_of(&std::env::var("TRACEPARENT").ok()?)
}

fn trace_of(parent: &str) -> Option<String> {
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    match parent.trim().split('-').collect::<Vec<_>>()[..] {
        [version, trace, span, flags, ..]
            if is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2) =>
        {
            Some(format!("trace {trace} span {span}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_trace_parent_is_read() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(trace_of(&format!("00-{trace}-{span}-01")), Some(format!("trace {trace} span {span}")));
        for bad in ["", "00-x", &format!("00-{trace}-{span}"), &format!("00-{trace}\n-{span}-01")] {
            assert_eq!(trace_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\td\u{9b}ä"), "a\\nb\\u{1b}[2Jc\td\\u{9b}ä");
    }
}

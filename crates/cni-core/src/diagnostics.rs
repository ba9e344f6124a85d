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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\td\u{9b}ä"), "a\\nb\\u{1b}[2Jc\td\\u{9b}ä");
    }
}

//! What is printed: tables with colours for people, JSON for programs.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use cni_core::plugin::DOCUMENTATION;
use cni_core::spec::{Error, Version};
use serde_json::{Value, json};

use crate::cli::Color;

/// What standard output is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// People.
    Table,
    /// Programs.
    Json,
}

/// Standard output and standard error.
pub(crate) struct Output {
    format: Format,
    colored: bool,
}

/// What a cell says, which its colour shows, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong.
    Bad,
}

/// A cell of a table.
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text in the colour of its tone.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::toned(text, Tone::Plain)
    }
}

impl Output {
    /// The output in a format.
    pub(crate) fn new(format: Format, color: Color) -> Output {
        let wanted = || std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let colored = match color {
            Color::Auto => wanted(),
            Color::Always => true,
            Color::Never => false,
        };
        Output { format, colored }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a value for programs.
    pub(crate) fn json(&self, value: &Value) {
        self.print(&format!("{value:#}"));
    }

    /// Prints a line, or several.
    pub(crate) fn print(&self, text: &str) {
        // A reader that has gone, as `head` does, needs no error.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A line with the colour of a tone.
    pub(crate) fn toned(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Odd => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
        };
        if self.colored && !code.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints a table: a line of headings, then the rows.
    pub(crate) fn table<const N: usize>(&self, headings: [&str; N], rows: &[[Cell; N]]) {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |texts: [String; N], lengths: [usize; N]| {
            let mut line = String::new();
            for (column, text) in texts.into_iter().enumerate() {
                let padding = if column + 1 < N { widths[column] - lengths[column] + 2 } else { 0 };
                line.push_str(&text);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            line.trim_end().to_owned()
        };
        self.print(&line(headings.map(str::to_owned), headings.map(str::len)));
        for row in rows {
            let texts = std::array::from_fn(|i| self.toned(&printable(&row[i].text), row[i].tone));
            self.print(&line(texts, std::array::from_fn(|i| printable(&row[i].text).chars().count())));
        }
    }

    /// Prints an error: for people on standard error, for programs as the error object of the
    /// specification.
    pub(crate) fn error(&self, err: &Error) {
        if self.is_json() {
            let object = err.to_json(Version::NEWEST);
            self.json(&serde_json::from_str(&object).unwrap_or_else(|_| json!({ "msg": err.msg() })));
            return;
        }
        // The message, then each detail on a line of its own.
        let text = err.to_string();
        let details = text.strip_prefix(err.msg()).unwrap_or_default();
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "cnictl: {}", printable(err.msg()));
        for detail in details.split("; ").filter(|detail| !detail.is_empty()) {
            let _ = writeln!(stderr, "  {}", printable(detail));
        }
        let _ = writeln!(stderr, "  errors by their text: {DOCUMENTATION}/troubleshooting.md");
    }
}

/// A text without control characters, which could change what a terminal shows: names and errors come
/// from files and plugins.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

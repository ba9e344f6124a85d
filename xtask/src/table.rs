//! Tables for a terminal, drawn with lines.

use std::fmt;
use std::io::IsTerminal;

/// A table whose columns are as wide as what is in them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    Line,
}

impl Table {
    /// A table with these headings; one that starts with `>` names a column of figures.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            header: headings.iter().map(|text| text.trim_start_matches('>').to_owned()).collect(),
            right: headings.iter().map(|text| text.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. A cell of several lines makes the row higher.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells: Vec<Vec<&str>> = cells.iter().map(|cell| cell.split('\n').collect()).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            let texts = cells.iter().map(|cell| cell.get(line).copied().unwrap_or("").to_owned());
            self.rows.push(Row::Cells(texts.collect()));
        }
    }

    /// Adds a line across, between groups of rows.
    pub(crate) fn line(&mut self) {
        if matches!(self.rows.last(), Some(Row::Cells(_))) {
            self.rows.push(Row::Line);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|text| width(text)).collect();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (widest, cell) in widths.iter_mut().zip(cells) {
                *widest = (*widest).max(width(cell));
            }
        }
        widths
    }

    fn cells(
        &self,
        f: &mut fmt::Formatter<'_>,
        cells: &[String],
        widths: &[usize],
        heading: bool,
    ) -> fmt::Result {
        write!(f, "│")?;
        for ((cell, widest), right) in cells.iter().zip(widths).zip(&self.right) {
            let space = " ".repeat(widest - width(cell));
            let text = if heading { Style::Bold.paint(cell) } else { cell.clone() };
            if *right {
                write!(f, " {space}{text} │")?;
            } else {
                write!(f, " {text}{space} │")?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let rule = |left: &str, middle: &str, right: &str| {
            let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}\n", parts.join(middle))
        };
        f.write_str(&rule("┌", "┬", "┐"))?;
        self.cells(f, &self.header, &widths, true)?;
        f.write_str(&rule("├", "┼", "┤"))?;
        let trailing = usize::from(matches!(self.rows.last(), Some(Row::Line)));
        for row in &self.rows[..self.rows.len() - trailing] {
            match row {
                Row::Cells(cells) => self.cells(f, cells, &widths, false)?,
                Row::Line => f.write_str(&rule("├", "┼", "┤"))?,
            }
        }
        f.write_str(&rule("└", "┴", "┘"))
    }
}

/// How a text is emphasized, on a terminal only.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Dim,
    Good,
    Bad,
    Accent,
}

impl Style {
    /// The text in this style; as it is where standard output is no terminal.
    pub(crate) fn paint(self, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
            return text.to_owned();
        }
        let code = match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Accent => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns that a text takes, without its colour codes.
fn width(text: &str) -> usize {
    let mut in_code = false;
    text.chars()
        .filter(|letter| match (in_code, letter) {
            (false, '\x1b') => {
                in_code = true;
                false
            }
            (true, 'm') => {
                in_code = false;
                false
            }
            (coded, _) => !coded,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::{Table, width};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["name", ">size"]);
        table.row(["a".into(), "1".into()]);
        table.line();
        table.row(["longer".into(), "1000".into()]);
        let expected = "\
┌────────┬──────┐
│ name   │ size │
├────────┼──────┤
│ a      │    1 │
├────────┼──────┤
│ longer │ 1000 │
└────────┴──────┘
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(width("\x1b[32mok\x1b[0m"), 2);
    }
}

//! Man pages made of the book's pages: the part of Markdown that these use, as troff.

/// The page `NAME(8)` of a text in Markdown, whose first paragraph says what it is.
pub(super) fn page(name: &str, markdown: &str) -> String {
    let mut lines = markdown.lines().skip_while(|line| line.is_empty() || line.starts_with("# ")).peekable();
    let first = paragraph(&mut lines);
    let summary = first.split_once(". ").map_or(&*first, |(sentence, _)| sentence).trim_end_matches('.');
    let mut page = format!(".TH {} 8 \"\" oxcni\n.SH NAME\n", name.to_uppercase());
    page += &format!("{} \\- {}\n.SH DESCRIPTION\n{}\n", escaped(name), plain(summary), inline(&first));
    while let Some(line) = lines.peek().copied() {
        if line.trim_start().starts_with("```") {
            page += &block(&mut lines);
        } else if line.starts_with('|') {
            page += &table(&mut lines);
        } else if let Some(heading) = line.strip_prefix("### ") {
            page += &format!(".SS {}\n", plain(heading));
            lines.next();
        } else if let Some(heading) = line.strip_prefix("## ") {
            page += &format!(".SH {}\n", plain(heading).to_uppercase());
            lines.next();
        } else if let Some(item) = line.strip_prefix("- ") {
            lines.next();
            page += &format!(".IP \\(bu 2\n{}\n", inline(&(item.to_owned() + &rest_of_item(&mut lines))));
        } else if line.is_empty() {
            lines.next();
        } else {
            page += &format!(".PP\n{}\n", inline(&paragraph(&mut lines)));
        }
    }
    without_breaks_below_headings(&page)
}

/// A paragraph begins below a heading anyway.
fn without_breaks_below_headings(page: &str) -> String {
    let mut below_heading = false;
    let lines = page.split_inclusive('\n').filter(|line| {
        let left_out = below_heading && *line == ".PP\n";
        below_heading = line.starts_with(".S");
        !left_out
    });
    lines.collect()
}

/// The lines up to the next empty one or block, as one.
fn paragraph<'t>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>) -> String {
    let ends =
        |line: &&str| line.is_empty() || ["```", "|", "- ", "#"].iter().any(|mark| line.starts_with(mark));
    let mut text = lines.next().unwrap_or_default().to_owned();
    while let Some(line) = lines.next_if(|line| !ends(line)) {
        text.extend([" ", line]);
    }
    text
}

/// The further lines of an item of a list, which are indented.
fn rest_of_item<'t>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>) -> String {
    let mut text = String::new();
    while let Some(line) =
        lines.next_if(|line| line.starts_with("  ") && !line.trim_start().starts_with("```"))
    {
        text.extend([" ", line.trim_start()]);
    }
    text
}

/// A fenced block, as it is.
fn block<'t>(lines: &mut impl Iterator<Item = &'t str>) -> String {
    let inside = lines.skip(1).take_while(|line| !line.trim_start().starts_with("```"));
    let inside: String = inside.map(|inside| line(escaped(inside)) + "\n").collect();
    format!(".PP\n.RS 4\n.nf\n{inside}.fi\n.RE\n")
}

/// A table: each row as its first cell with a text, in which the cells behind the second have their column's name.
fn table<'t>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>) -> String {
    let mut rows = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
        rows.push(cells(line));
    }
    let Some((names, rows)) = rows.split_first() else { return String::new() };
    let mut text = String::new();
    // The second row is the rule below the names.
    for row in rows.iter().skip(1) {
        text += &format!(".TP\n{}\n", inline(row.first().map_or("", String::as_str)));
        let named = names.len() > 2;
        let rest = row.iter().zip(names).skip(1).filter(|(cell, _)| !cell.is_empty());
        let parts = rest.map(|(cell, name)| match name.as_str() {
            name if named && !name.is_empty() => format!("{}: {}", plain(name), inline(cell)),
            _ => inline(cell),
        });
        text += &(parts.collect::<Vec<_>>().join("\n.br\n") + "\n");
    }
    text
}

/// The cells of a row; a bar after a backslash, or in code, is text.
fn cells(line: &str) -> Vec<String> {
    let inside = line.trim().trim_start_matches('|');
    let inside = inside.strip_suffix('|').unwrap_or(inside);
    let (mut cells, mut in_code, mut escaped) = (vec![String::new()], false, false);
    for c in inside.chars() {
        match c {
            '|' if !in_code && !escaped => cells.push(String::new()),
            '\\' if !in_code && !escaped => {
                escaped = true;
                continue;
            }
            _ => {
                in_code ^= c == '`';
                cells.last_mut().expect("there is one").push(c);
            }
        }
        escaped = false;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Text with code in bold, emphasis in italics, and of links the text.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in without_targets(text).split('`').enumerate() {
        if index % 2 == 1 {
            out += &format!("\\fB{}\\fR", escaped(part));
        } else {
            out += &emphasis(part);
        }
    }
    line(out)
}

/// As [`inline`], without fonts.
fn plain(text: &str) -> String {
    line(escaped(&without_targets(text).replace(['`', '*'], "")))
}

fn emphasis(text: &str) -> String {
    let parts = text.split('*').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            1 => format!("\\fI{}\\fR", escaped(part)),
            _ => escaped(part),
        })
        .collect()
}

/// `[text](target)` becomes `text`.
fn without_targets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("](") {
        let (Some((before, shown)), Some((_, behind))) = (before.rsplit_once('['), behind.split_once(')'))
        else {
            break;
        };
        out.extend([before, shown]);
        rest = behind;
    }
    out + rest
}

/// What troff would take for an escape, or a hyphen, is text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A line that begins like a request is text.
fn line(text: String) -> String {
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::{cells, inline, page};

    #[test]
    fn a_page_has_a_name_and_all_of_the_text() {
        let markdown = "# veth\n\nGives a pair of `ends`. And\nmore.\n\n```json\n{ \"a\": 1 }\n```\n\n\
                        | key | meaning |\n|---|---|\n| `a` | the [first](x.md) |\n\n## What differs\n\nThis:\n\n- one\n  goes on\n- two\n";
        let made = page("oxcni-veth", markdown);
        assert_eq!(
            made,
            ".TH OXCNI-VETH 8 \"\" oxcni\n.SH NAME\noxcni\\-veth \\- Gives a pair of ends\n.SH DESCRIPTION\n\
             Gives a pair of \\fBends\\fR. And more.\n.PP\n.RS 4\n.nf\n{ \"a\": 1 }\n.fi\n.RE\n\
             .TP\n\\fBa\\fR\nthe first\n.SH WHAT DIFFERS\nThis:\n.IP \\(bu 2\none goes on\n.IP \\(bu 2\ntwo\n"
        );
    }

    #[test]
    fn text_is_no_request_and_no_escape() {
        assert_eq!(inline(".TH a\\b"), "\\&.TH a\\eb");
        assert_eq!(inline("`.x` and `--y`"), "\\fB.x\\fR and \\fB\\-\\-y\\fR");
        assert_eq!(inline("[`a`](b.md), *never* and `a*b*c`"), "\\fBa\\fR, \\fInever\\fR and \\fBa*b*c\\fR");
        assert_eq!(inline("`[1]` is no [link](x)"), "\\fB[1]\\fR is no link");
    }

    #[test]
    fn a_bar_in_code_or_behind_a_backslash_is_text() {
        assert_eq!(cells("| a | `b|c` | d\\|e |"), ["a", "`b|c`", "d|e"]);
    }
}

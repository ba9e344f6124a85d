//! The pages of the book, and what is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of the book, by their path below its source folder.
pub(crate) fn pages() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in
            fs::read_dir(folder).expect("a folder of the book").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                collect(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "md") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("docs/src"), &mut found);
    found.sort();
    found.into_iter().map(|path| (path.clone(), with_includes(&path))).collect()
}

/// A page as mdBook shows it: a line `{{#include FILE}}` is that file.
pub(crate) fn with_includes(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("a page");
    let included = |line: &str| {
        let file = line.strip_prefix("{{#include ")?.strip_suffix("}}")?;
        Some(fs::read_to_string(page.parent()?.join(file)).unwrap_or_else(|err| panic!("{file}: {err}")))
    };
    text.lines().map(|line| included(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}

/// The fenced blocks of a language, without indentation that a list gives them.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(opened) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let block: String = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or(""))).collect();
        if opened == language {
            found.push(block);
        }
    }
    found
}

/// The anchors of a page: its headings, as mdBook and others make them.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The targets of the links in a text, outside fenced blocks and code.
pub(crate) fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    prose
        .flat_map(|line| {
            line.split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'))
                .map(|(target, _)| target.to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A page by its path below the source folder.
pub(crate) fn page(name: &str) -> String {
    with_includes(&root().join("docs/src").join(name))
}

/// The commands that a page shows as executed, in their order.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let lines = blocks(text, "console").concat();
    lines.lines().map(|line| line.strip_prefix("$ ").expect("a command").to_owned()).collect()
}

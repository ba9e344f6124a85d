//! `coverage.md` and the cases are in step.

use cni_conformance::case::Case;
use cni_conformance::catalogue;
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

const NEWEST: &str = "3f51e8803ebbdba0ebeed735b42137e4c7302403";

/// The lines of sections 1 to 5 of the newest text that have one of the words of RFC 2119.
const LINES: [u32; 83] = [
    112, 113, 114, 115, 116, 119, 121, 124, 130, 137, 141, 149, 199, 202, 219, 226, 228, 233, 241, 245, 247,
    249, 267, 271, 272, 274, 276, 297, 298, 299, 300, 306, 307, 308, 312, 313, 314, 334, 340, 342, 350, 351,
    352, 363, 382, 384, 386, 388, 392, 414, 415, 416, 417, 418, 420, 421, 427, 433, 444, 460, 488, 498, 499,
    500, 505, 522, 543, 548, 556, 561, 563, 567, 571, 578, 584, 599, 604, 609, 624, 647, 649, 653, 661,
];

/// A row of the page: the commit and lines that it is of, and the ids in it.
struct Row {
    commit: String,
    lines: RangeInclusive<u32>,
    ids: Vec<String>,
    last: String,
}

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/coverage.md")).expect("the page")
}

fn rows() -> Vec<Row> {
    page().lines().filter_map(row).collect()
}

/// `| [233](https://…/blob/COMMIT/SPEC.md#L233) | must | any | words | cases |`
fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix("| [")?.trim_end_matches(" |").split(" | ").collect();
    let [place, _, _, _, last] = cells[..] else { return None };
    let (commit, lines) = place.split_once("/blob/")?.1.split_once("/SPEC.md#")?;
    let ids = last.split('`').skip(1).step_by(2).filter(|id| id.split('/').count() == 3).map(str::to_owned);
    Some(Row {
        commit: commit.to_owned(),
        lines: range(lines.trim_end_matches(')'))?,
        ids: ids.collect(),
        last: last.to_owned(),
    })
}

/// `L5` or `L5-L7`
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.strip_prefix('L')?.parse().ok();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(number(first)?..=number(last)?)
}

/// Commit and lines that a case cites, where it cites the specification.
fn cited(case: &Case) -> Option<(String, RangeInclusive<u32>)> {
    let (commit, lines) =
        case.text.split_once("/containernetworking/cni/blob/")?.1.split_once("/SPEC.md#")?;
    Some((commit.to_owned(), range(lines)?))
}

fn overlap(a: &RangeInclusive<u32>, b: &RangeInclusive<u32>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn cases() -> Vec<Case> {
    catalogue::embedded().expect("valid cases")
}

#[test]
fn every_case_of_the_specification_is_in_a_row_of_the_lines_that_it_cites() {
    let rows = rows();
    for case in cases().iter().filter(|case| !case.id.starts_with("doc/")) {
        let (commit, lines) = cited(case).unwrap_or_else(|| panic!("{} cites {}", case.id, case.text));
        let listed =
            |row: &&Row| row.commit == commit && overlap(&row.lines, &lines) && row.ids.contains(&case.id);
        assert!(rows.iter().any(|row| listed(&row)), "{} is not in a row of {lines:?}", case.id);
    }
}

#[test]
fn no_row_names_a_case_that_does_not_exist_and_none_is_empty() {
    let ids: BTreeSet<String> = cases().into_iter().map(|case| case.id).collect();
    for row in rows() {
        assert!(!row.last.trim().is_empty(), "the row of {:?} is empty", row.lines);
        for id in &row.ids {
            assert!(ids.contains(id), "{id} in the row of {:?} does not exist", row.lines);
        }
    }
}

#[test]
fn every_line_with_a_word_of_rfc_2119_is_in_a_row() {
    let rows = rows();
    for line in LINES {
        let covered = rows.iter().any(|row| row.commit == NEWEST && row.lines.contains(&line));
        assert!(covered, "line {line} is not on the page");
    }
}

/// An id is never given again: numbers of a section have no gap that a new case could fill by mistake.
#[test]
fn the_numbers_of_a_section_are_without_gaps() {
    let cases = cases();
    let mut sections: std::collections::BTreeMap<&str, BTreeSet<u32>> = Default::default();
    for case in &cases {
        let (section, number) = case.id.rsplit_once('/').expect("a number at the end");
        sections.entry(section).or_default().insert(number.parse().expect("a number"));
    }
    for (section, numbers) in sections {
        let expected: BTreeSet<u32> = (1..=u32::try_from(numbers.len()).expect("few")).collect();
        assert_eq!(numbers, expected, "{section}");
    }
}

/// What others than this project's plugins fail in the table of results is explained, case by case.
#[test]
fn every_failure_of_others_is_explained() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |name: &str| fs::read_to_string(format!("{root}/{name}")).expect(name);
    let explained: BTreeSet<String> =
        first_words(&read("deviations.md")).into_iter().map(|(id, _)| id).collect();
    let results = read("results/README.md");
    let (_, table) = results.split_once("## Failures").expect("the table of failures");
    let header: Vec<&str> =
        table.lines().find(|line| line.starts_with("| case |")).expect("a header").split('|').collect();
    let is_other = |name: &str| !name.is_empty() && name != "case" && !name.starts_with("oxcni-");
    let others: Vec<usize> = (0..header.len()).filter(|column| is_other(header[*column].trim())).collect();
    assert!(others.len() > 1, "no columns of others");
    for (id, line) in first_words(table) {
        let cells: Vec<&str> = line.split('|').collect();
        let fails =
            others.iter().any(|column| cells.get(*column).is_some_and(|cell| !cell.trim().is_empty()));
        assert!(!fails || explained.contains(&id), "{id} is not in deviations.md");
    }
}

/// The ids of cases that begin rows of tables, and their rows.
fn first_words(text: &str) -> Vec<(String, String)> {
    let rows = text.lines().filter_map(|line| Some((line.strip_prefix("| ")?, line)));
    rows.filter_map(|(row, line)| Some((row.split(' ').next()?.to_owned(), line.to_owned())))
        .filter(|(id, _)| id.split('/').count() == 3)
        .collect()
}

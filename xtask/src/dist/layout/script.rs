//! The linker script: what calls use, that of most calls first.

use super::sections::{Section, Sections, escaped};
use crate::bench::calls::{Called, Counts};
use crate::elf::References;
use std::collections::{BTreeMap, BTreeSet};

const HEADER: &str = "\
/* The functions that ADD, DEL, STATUS and VERSION enter, and the constants that these refer to: first
   those of the plugins, then those that multus adds, and in each those of most calls first. What a
   build by another compiler calls by names with other hashes comes last. Made by `cargo xtask dist`;
   `cargo xtask dist --layout FILE` links with it again. */
";

/// The linker script for a program whose calls were noted.
pub(super) fn script(sections: &Sections<'_>, references: &References, called: &Called) -> String {
    let plugins = by_calls(sections, &called.by_plugins);
    let all = by_calls(sections, &called.by_all);
    let mut taken = BTreeSet::new();
    let mut text = HEADER.to_owned();
    for (name, used) in [("plugins", &plugins), ("multus", &all)] {
        let functions = used.iter().filter_map(|section| section.pattern());
        text += &output_section(".text", name, functions, &mut taken);
        text += &output_section(".rodata", name, constants(used, references), &mut taken);
    }
    let others = [plugins, all].concat();
    let others = others.iter().filter_map(|section| section.pattern_of_other_builds());
    text + &output_section(".text", "other", others, &mut taken)
}

/// The sections of the called functions; those that most calls enter come first.
fn by_calls<'m>(sections: &Sections<'m>, counts: &Counts) -> Vec<Section<'m>> {
    let mut of_section = BTreeMap::new();
    for (address, count) in counts {
        if let Some(section) = sections.at(*address) {
            let most = of_section.entry(section).or_insert(0);
            *most = (*most).max(*count);
        }
    }
    let mut ordered: Vec<_> = of_section.into_iter().collect();
    ordered.sort_by_key(|(section, count)| (std::cmp::Reverse(*count), *section));
    ordered.into_iter().map(|(section, _)| section).collect()
}

/// Patterns of the constants that the code refers to, also by way of other constants, in the order of the code.
fn constants(code: &[Section<'_>], references: &References) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut patterns = Vec::new();
    for section in code {
        patterns.extend(section.pattern_of_constants());
        let mut left = vec![section.name];
        while let Some(name) = left.pop() {
            for to in references.get(name).into_iter().flatten() {
                if to.starts_with(".rodata") && seen.insert(to) {
                    patterns.push(format!("*({})", escaped(to)));
                    left.push(to);
                }
            }
        }
    }
    patterns
}

/// A part of the linker script, with what no part before it has `taken`.
fn output_section(
    before: &str,
    name: &str,
    patterns: impl IntoIterator<Item = String>,
    taken: &mut BTreeSet<String>,
) -> String {
    let new = patterns.into_iter().filter(|pattern| taken.insert(pattern.clone()));
    let lines: String = new.map(|pattern| format!("    {pattern}\n")).collect();
    format!("SECTIONS {{\n  {before}.{name} : {{\n{lines}  }}\n}}\nINSERT BEFORE {before};\n")
}

#[cfg(test)]
mod tests {
    use super::{Sections, script};
    use crate::bench::calls::Called;
    use crate::elf::References;

    const MAP: &str = "\
        10 10 10 16 /x/a.o:(.text.rare)\n\
        20 20 10 16 /x/a.o:(.text.often)\n\
        30 30 10 16 /x/a.o:(.text.multus)\n\
        40 40 10 16 /x/a.o:(.text.never)\n";

    fn references() -> References {
        let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        [
            (".text.rare", to(&[".rodata.rare", ".rodata.shared", ".text.never"])),
            (".text.often", to(&[".rodata.shared"])),
            (".rodata.shared", to(&[".rodata.behind"])),
            (".text.never", to(&[".rodata.never"])),
        ]
        .map(|(from, to)| (from.to_owned(), to))
        .into()
    }

    #[test]
    fn what_most_calls_use_comes_first() {
        let called = Called {
            by_plugins: [(0x10, 1), (0x24, 5), (0x20, 2)].into(),
            by_all: [(0x10, 1), (0x20, 7), (0x30, 9)].into(),
        };
        let script = script(&Sections::of(MAP), &references(), &called);
        let words = |name: &str| {
            let (_, rest) = script.split_once(&format!("{name} : {{\n")).unwrap();
            rest.split_once('}').unwrap().0.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(".text.plugins"), "*(.text.often) *(.text.rare)");
        assert_eq!(words(".rodata.plugins"), "*(.rodata.shared) *(.rodata.behind) *(.rodata.rare)");
        assert_eq!(words(".text.multus"), "*(.text.multus)");
        assert_eq!(words(".rodata.multus"), "");
        assert!(!script.contains("never"), "{script}");
    }

    #[test]
    fn other_builds_are_served_last() {
        let map = "10 10 10 16 /x/a.o:(.text._ZN1a1b17h0123456789abcdefE)\n";
        let called = Called { by_plugins: [(0x10, 1)].into(), by_all: [(0x10, 1)].into() };
        let script = script(&Sections::of(map), &References::new(), &called);
        let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| line.starts_with("*(")).collect();
        assert_eq!(lines, ["*(.text._ZN1a1b17h0123456789abcdefE)", "*(.text._ZN1a1b*)"]);
    }
}

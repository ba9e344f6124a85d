//! Names of keys without regard to case.

/// Whether a key stands for a name, by Unicode's simple case folding as in Go's encoding/json.
///
/// Names are ASCII. Besides the letters themselves two characters fold to an ASCII letter: the
/// long s (U+017F) and the Kelvin sign (U+212A).
pub fn same_key(name: &str, key: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(key.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::same_key;

    #[test]
    fn case_does_not_count_and_two_characters_fold_to_ascii() {
        for key in ["dataDisk", "DATADISK", "dataDi\u{17f}\u{212a}"] {
            assert!(same_key("dataDisk", key), "{key}");
        }
        // Not the full folding, in which this is "ss", nor any other letter.
        for (name, key) in [("ss", "\u{df}"), ("i", "\u{131}"), ("name", "names"), ("", "x")] {
            assert!(!same_key(name, key), "{name} {key}");
        }
    }
}

//! A file, the configuration in it, and the way from a place in one to the place in the other.

/// A configuration, which may be a string in another file.
pub(crate) struct Source<'f> {
    /// The text of the file.
    file: &'f str,
    /// The configuration.
    pub(crate) text: String,
    /// For each byte of the configuration its place in the file; `None` where they are the same.
    places: Option<Vec<usize>>,
}

/// A line and a column, both counted from 1; the column in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl<'f> Source<'f> {
    /// A file that is a configuration.
    pub(crate) fn whole(file: &'f str) -> Source<'f> {
        Source { file, text: file.to_owned(), places: None }
    }

    /// A configuration in a string of YAML or JSON, whose text begins in the file at `start`.
    pub(crate) fn embedded(file: &'f str, start: Place, text: String) -> Source<'f> {
        let places = aligned(file, offset_of(file, start), &text);
        Source { file, text, places: Some(places) }
    }

    /// The place in the file of an offset in the configuration.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = match &self.places {
            Some(places) => places.get(offset).or(places.last()).copied().unwrap_or_default(),
            None => offset,
        };
        place_of(self.file, offset)
    }

    /// The place in the file of a line and a column (in bytes) of the configuration.
    pub(crate) fn place_in_text(&self, line: usize, column: usize) -> Place {
        let start: usize = self.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        self.place(start + column - 1)
    }

    /// The file with spaces in place of all but the part of the configuration from `at`: an error about
    /// it then has line and column of the file. `None` where the part is written otherwise in the file,
    /// as with escaped quotes.
    pub(crate) fn masked(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        let (start, end) = match &self.places {
            Some(places) => (*places.get(at)?, *places.get((at + len).checked_sub(1)?)? + 1),
            None => (at, at + len),
        };
        let is_same =
            self.file.get(start..end)?.split_whitespace().eq(self.text.get(at..at + len)?.split_whitespace());
        let blank = |(i, byte): (usize, u8)| {
            let is_part = (start..end).contains(&i);
            if is_part || byte == b'\n' { byte } else { b' ' }
        };
        is_same.then(|| self.file.bytes().enumerate().map(blank).collect())
    }
}

/// The place of an offset of bytes.
pub(crate) fn place_of(text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let is_char = |byte: &&u8| **byte & 0xc0 != 0x80;
    Place {
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: before[line_start..].iter().filter(is_char).count() + 1,
    }
}

fn offset_of(text: &str, place: Place) -> usize {
    let start: usize = text.split_inclusive('\n').take(place.line.saturating_sub(1)).map(str::len).sum();
    let line = text.get(start..).unwrap_or_default();
    start + line.char_indices().nth(place.column.saturating_sub(1)).map_or(0, |(at, _)| at)
}

/// Where each byte of a string stands in the text that it is written in. White space may be written in
/// any way, and escapes are passed over: the next character that is the same is taken.
fn aligned(file: &str, start: usize, text: &str) -> Vec<usize> {
    /// How far the next character is looked for: beyond it, it is written as a number.
    const REACH: usize = 200;
    let mut places = Vec::with_capacity(text.len());
    let mut at = start;
    for c in text.chars() {
        let mut next = at;
        if !c.is_whitespace() {
            let rest = file.get(at..).unwrap_or_default();
            if let Some((skipped, _)) = rest.char_indices().take(REACH).find(|(_, other)| *other == c) {
                at += skipped;
                next = at + c.len_utf8();
            }
        }
        places.extend((0..c.len_utf8()).map(|i| at + i));
        at = next;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { line: 2, column: 9 };

    fn place(file: &str, text: &str, of: &str) -> (usize, usize) {
        let source = Source::embedded(file, PLACE, text.to_owned());
        let place = source.place(text.find(of).unwrap());
        (place.line, place.column)
    }

    #[test]
    fn a_string_is_found_in_yaml_however_it_is_written() {
        let block = "spec:\n  config: |\n    {\n      \"a\": 1\n    }\n";
        assert_eq!(place(block, "{\n  \"a\": 1\n}\n", "\"a\""), (4, 7));
        let quoted = "spec:\n  config: '{\"a\": 1}'\n";
        assert_eq!(place(quoted, "{\"a\": 1}", "\"a\""), (2, 13));
        let escaped = "spec:\n  config: \"{\\n  \\\"a\\\": 1}\"\n";
        assert_eq!(place(escaped, "{\n  \"a\": 1}", "\"a\""), (2, 18));
    }

    #[test]
    fn a_part_is_masked_where_it_is_written_as_it_is() {
        let block = "spec:\n  config: |\n    {\"x\": {\n      \"a\": 1}}\n";
        let text = "{\"x\": {\n  \"a\": 1}}\n";
        let source = Source::embedded(block, PLACE, text.to_owned());
        let at = text.rfind('{').unwrap();
        let masked = String::from_utf8(source.masked(at, text.len() - at - 2).unwrap()).unwrap();
        assert_eq!(masked.trim(), "{\n      \"a\": 1}");
        assert_eq!(masked.find('{'), block.rfind('{'));
        let escaped = "spec:\n  config: \"{\\\"a\\\": 1}\"\n";
        assert!(Source::embedded(escaped, PLACE, "{\"a\": 1}".to_owned()).masked(0, 8).is_none());
    }
}

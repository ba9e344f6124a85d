//! The text of JSON: what Go replaces before it decodes a string.

use std::borrow::Cow;

/// The text with each invalid byte of UTF-8 and each lone surrogate replaced by U+FFFD, as Go's
/// encoding/json reads strings.
pub(super) fn repaired(bytes: &[u8]) -> Cow<'_, str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(without_invalid_bytes(bytes)),
    };
    if has_surrogates(&text) { Cow::Owned(without_lone_surrogates(&text)) } else { text }
}

fn without_invalid_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}

fn has_surrogates(text: &str) -> bool {
    text.as_bytes().windows(3).any(|window| matches!(window, [b'\\', b'u', b'd' | b'D']))
}

/// Replaces escapes of a surrogate without its other half by that of U+FFFD, which is as long.
fn without_lone_surrogates(text: &str) -> String {
    let mut rest = text;
    let mut repaired = String::with_capacity(text.len());
    // A backslash is valid only in a string, and begins an escape of two or six bytes there.
    while let Some(at) = rest.find('\\') {
        repaired.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = match (escaped(rest), rest.get(6..).and_then(escaped)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                repaired.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        repaired.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    repaired.push_str(rest);
    repaired
}

/// The code unit of the escape at the beginning of a text: `\u` and four digits.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use super::repaired;

    #[test]
    fn each_invalid_byte_is_replaced() {
        assert_eq!(repaired(b"\"a\xe2\x82b\xff\""), "\"a\u{fffd}\u{fffd}b\u{fffd}\"");
    }

    #[test]
    fn a_lone_surrogate_is_replaced_and_a_pair_is_kept() {
        for (text, expected) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00\ud83dx""#, r#""\ufffd\ufffdx""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\u0041\ud8""#, r#""\u0041\ud8""#),
            (r#""\ud83d\"#, r#""\ufffd\"#),
        ] {
            assert_eq!(repaired(text.as_bytes()), expected);
        }
    }
}

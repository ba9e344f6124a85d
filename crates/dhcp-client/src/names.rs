//! Domain names in options.

/// The most names of a search list; resolvers read six (resolv.conf(5)).
const MOST_NAMES: usize = 32;

/// Names of RFC 1035, section 4.1.4, with pointers into the option's own value.
pub(crate) fn names(value: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < value.len() && found.len() < MOST_NAMES {
        let (name, end) = name(value, at)?;
        found.push(name);
        at = end;
    }
    Some(found)
}

/// The name at a place, and where the next one begins.
fn name(value: &[u8], start: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let (mut at, mut end) = (start, None);
    loop {
        let length = usize::from(*value.get(at)?);
        match length >> 6 {
            0 if length == 0 => {
                let end = end.unwrap_or(at + 1);
                return is_name(&text).then_some((text, end));
            }
            0 => {
                let label = std::str::from_utf8(value.get(at + 1..at + 1 + length)?).ok()?;
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(label);
                if text.len() > 253 {
                    return None;
                }
                at += 1 + length;
            }
            3 => {
                let target = (length & 0x3f) << 8 | usize::from(*value.get(at + 1)?);
                // Only backwards, so that it ends.
                if target >= at {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = target;
            }
            _ => return None,
        }
    }
}

/// Whether a text can stand in resolv.conf as a domain: letters, digits, `-`, `_` and single dots.
pub(crate) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

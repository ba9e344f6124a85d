//! Reading JSON as Go's encoding/json does, with errors that show the place of the mistake.
//!
//! Everything that comes from outside is read here: configurations, results of other plugins,
//! annotations, caches. The rules, which hold for every struct that serde derives:
//!
//! - A key stands for a field without regard to case, by Unicode's simple folding. Keys of maps
//!   are exact.
//! - Of a key that is given several times, in any spelling, the last value counts. The members of
//!   an object are added to those of the earlier object.
//! - `null` is an absent key. As an element of a list it is the zero value.
//! - Unknown keys are ignored.
//! - Invalid UTF-8 and lone surrogates become U+FFFD.
//! - A number with a fraction or an exponent is not an integer.
//!
//! It differs from Go where a key is given twice: a list replaces the earlier list with all its
//! elements, where Go decodes each element into the earlier one; `null` leaves the earlier value
//! also of a list or map; and of two values only the last has to be valid, if both have one type.

mod fold;
mod text;
mod value;

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, IgnoredAny, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Code, Error, Result};
pub use fold::same_key;
use value::{Context, Fault};

/// Characters of a line shown on either side of a mistake.
const EXCERPT: usize = 40;

/// A key that is read as a field whose name has another case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spelling {
    /// The key in the text.
    pub key: String,
    /// The documented name.
    pub name: &'static str,
}

/// Reads `text` as a `T`; errors call it `what` ("network configuration").
///
/// # Errors
/// [`Code::UNDECODABLE`] when it is not JSON, [`Code::INVALID_CONFIG`] when its values have
/// other types; both have line and column and show the text around them.
pub fn from_json<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T> {
    from_json_spelled(text, what).map(|(value, _)| value)
}

/// [`from_json`], and the keys that differ in case from the documented names, 16 at most.
///
/// # Errors
/// Those of [`from_json`].
pub fn from_json_spelled<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<(T, Vec<Spelling>)> {
    let text = text::repaired(text);
    serde_json::from_str::<IgnoredAny>(&text).map_err(|err| syntax_error(&text, what, &err))?;
    let context = Context::new(&text);
    let value = T::deserialize(context.value()).map_err(|fault| type_error(&text, what, &fault))?;
    let spellings = context.into_spellings().into_iter().map(|(key, name)| Spelling { key, name });
    Ok((value, spellings.collect()))
}

fn syntax_error(text: &str, what: &str, err: &serde_json::Error) -> Error {
    let problem = err.to_string();
    let problem = problem.split(" at line ").next().unwrap_or(&problem);
    let (line, column) = (err.line(), err.column());
    let msg = format!("{what} is not valid JSON: line {line}, column {column}: {problem}");
    Error::new(Code::UNDECODABLE, msg).details(excerpt(text, line, column))
}

fn type_error(text: &str, what: &str, fault: &Fault) -> Error {
    let start = text.len() - text.trim_ascii_start().len();
    let before = text.get(..fault.offset.unwrap_or(start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
    let path = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
    let msg = format!("{what} is not valid: line {line}, column {}: {path}{}", column + 1, fault.problem);
    Error::invalid_config(msg).details(excerpt(text, line, column))
}

/// For `#[serde(deserialize_with)]`: an empty string is read as an absent key, as the Go
/// plugins read every optional string.
///
/// # Errors
/// Those of the type itself.
pub fn none_if_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(text: D) -> Result<Option<T>, D::Error> {
    text.deserialize_option(OptionalText(PhantomData))
}

/// A visitor, so that an error has the place of the string.
struct OptionalText<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionalText<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, text: D) -> Result<Option<T>, D::Error> {
        text.deserialize_str(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<T>, E> {
        if text.is_empty() { Ok(None) } else { T::deserialize(text.into_deserializer()).map(Some) }
    }
}

/// [`none_if_empty`] for a key that has a default.
///
/// # Errors
/// Those of the type itself.
pub fn default_if_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    text: D,
) -> Result<T, D::Error> {
    none_if_empty(text).map(Option::unwrap_or_default)
}

/// The part of a line around a mistake, which is marked after so many bytes of the line.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    let Some(line) = text.as_bytes().split(|b| *b == b'\n').nth(line.saturating_sub(1)) else {
        return String::new();
    };
    let at = column.min(line.len());
    let before = String::from_utf8_lossy(&line[at.saturating_sub(EXCERPT)..at]);
    let after = String::from_utf8_lossy(&line[at..(at + EXCERPT).min(line.len())]);
    format!("near {:?}", format!("{}<HERE>{}", before.trim_start(), after.trim_end()))
}

#[cfg(test)]
mod tests;

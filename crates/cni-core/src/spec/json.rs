//! Reading JSON, with errors that show the place of the mistake.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;

use super::{Code, Error, Result};

/// Characters of a line shown on either side of a mistake.
const EXCERPT: usize = 40;

/// Reads `text` as a `T`; errors call it `what` ("network configuration").
///
/// A `null` is read as if the key were absent, as the Go plugins do.
///
/// # Errors
/// [`Code::UNDECODABLE`] when it is not JSON, [`Code::INVALID_CONFIG`] when its values have
/// other types; both have line and column and show the text around them.
pub fn from_json<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T> {
    let err = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(err) => err,
    };
    let code = match err.classify() {
        Category::Data => Code::INVALID_CONFIG,
        Category::Io | Category::Syntax | Category::Eof => Code::UNDECODABLE,
    };
    if code == Code::INVALID_CONFIG
        && let Some(value) = without_nulls(text)
    {
        return Ok(value);
    }
    let problem = err.to_string();
    let problem = problem.split(" at line ").next().unwrap_or(&problem);
    let fault = if code == Code::UNDECODABLE { "is not valid JSON" } else { "is not valid" };
    let (line, column) = (err.line(), err.column());
    let mut msg = format!("{what} {fault}: {problem}");
    if line > 0 {
        msg = format!("{what} {fault}: line {line}, column {column}: {problem}");
    }
    Err(Error::new(code, msg).details(excerpt(text, line, column)))
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

/// A second attempt for a text with `null` in it; `None` where that is not the reason.
fn without_nulls<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    if !text.windows(4).any(|window| window == b"null") {
        return None;
    }
    let mut value: Value = serde_json::from_slice(text).ok()?;
    strip_nulls(&mut value);
    T::deserialize(value).ok()
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// The line of the mistake with a mark behind the column, cut to what fits on a screen.
fn excerpt(text: &[u8], line: usize, column: usize) -> String {
    let Some(line) = text.split(|b| *b == b'\n').nth(line.saturating_sub(1)) else {
        return String::new();
    };
    let at = column.min(line.len());
    let before = String::from_utf8_lossy(&line[at.saturating_sub(EXCERPT)..at]);
    let after = String::from_utf8_lossy(&line[at..(at + EXCERPT).min(line.len())]);
    format!("near {:?}", format!("{}<HERE>{}", before.trim_start(), after.trim_end()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Conf {
        #[serde(default)]
        vlan: u16,
        #[serde(default)]
        list: Vec<u8>,
    }

    #[test]
    fn a_syntax_error_shows_its_place() {
        let error = from_json::<Conf>(b"{\n  \"vlan\": 7\n  \"list\": []\n}", "configuration").unwrap_err();
        assert_eq!(error.code(), Code::UNDECODABLE);
        assert!(error.msg().starts_with("configuration is not valid JSON: line 3, column "), "{error}");
        assert!(error.to_string().contains(r#"<HERE>"#), "{error}");
        assert!(error.to_string().contains("list"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_an_invalid_configuration() {
        let error = from_json::<Conf>(br#"{"vlan": "seven"}"#, "configuration").unwrap_err();
        assert_eq!(error.code(), Code::INVALID_CONFIG);
        assert!(error.msg().contains("seven"), "{error}");
    }

    #[test]
    fn null_means_absent() {
        let conf: Conf = from_json(br#"{"vlan": null, "list": null}"#, "configuration").unwrap();
        assert_eq!(conf, Conf { vlan: 0, list: vec![] });
    }

    #[test]
    fn an_empty_string_means_absent_and_an_error_has_the_place_of_the_string() {
        #[derive(Deserialize, Debug)]
        struct Named {
            #[serde(default, deserialize_with = "none_if_empty")]
            name: Option<crate::spec::IfName>,
        }
        for absent in [r#"{}"#, r#"{"name":""}"#, r#"{"name":null}"#] {
            assert_eq!(from_json::<Named>(absent.as_bytes(), "it").unwrap().name, None);
        }
        assert_eq!(from_json::<Named>(br#"{"name":"eth0"}"#, "it").unwrap().name.as_deref(), Some("eth0"));
        let error = from_json::<Named>(b"{\n\"name\":\"a/b\"\n}", "it").unwrap_err();
        assert!(error.msg().contains("line 2, column 12"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_json::<Conf>(&bytes, "configuration");
        }

        #[test]
        fn any_cut_and_twist_of_a_configuration_is_read_or_refused(cut in 0usize..40, byte in any::<u8>()) {
            let mut text = "{\"vlan\": 7, \"list\": [1,\n2, null]}".to_owned().into_bytes();
            text.truncate(cut);
            text.push(byte);
            let _ = from_json::<Conf>(&text, "configuration");
        }
    }
}

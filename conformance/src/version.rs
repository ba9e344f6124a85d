//! Versions of the specification, and ranges of them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A version of the specification, such as `0.3.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub u32, pub u32, pub u32);

/// The released versions, oldest first.
pub const RELEASED: [Version; 7] = [
    Version(0, 1, 0),
    Version(0, 2, 0),
    Version(0, 3, 0),
    Version(0, 3, 1),
    Version(0, 4, 0),
    Version(1, 0, 0),
    Version(1, 1, 0),
];

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text:?} is not a version of the form 1.0.0")),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A range such as `>=0.4.0 <1.0.0`: all of its conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range(Vec<(Comparison, Version)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Least,
    Below,
    Exact,
}

impl Range {
    /// Whether `version` is in it.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        self.0.iter().all(|(comparison, limit)| match comparison {
            Comparison::Least => version >= *limit,
            Comparison::Below => version < *limit,
            Comparison::Exact => version == *limit,
        })
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let condition = |word: &str| {
            let (comparison, version) = if let Some(rest) = word.strip_prefix(">=") {
                (Comparison::Least, rest)
            } else if let Some(rest) = word.strip_prefix('<') {
                (Comparison::Below, rest)
            } else {
                (Comparison::Exact, word)
            };
            Ok((comparison, version.parse()?))
        };
        text.split_whitespace().map(condition).collect::<Result<_, String>>().map(Self)
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |(comparison, version): &(Comparison, Version)| match comparison {
            Comparison::Least => format!(">={version}"),
            Comparison::Below => format!("<{version}"),
            Comparison::Exact => version.to_string(),
        };
        f.write_str(&self.0.iter().map(word).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_all_of_its_conditions() {
        let range: Range = ">=0.3.0 <1.0.0".parse().unwrap();
        let inside: Vec<String> =
            RELEASED.iter().filter(|v| range.contains(**v)).map(ToString::to_string).collect();
        assert_eq!(inside, ["0.3.0", "0.3.1", "0.4.0"]);
        assert!(Range::default().contains(Version(9, 0, 0)));
        assert!(">=1".parse::<Range>().is_err());
    }
}

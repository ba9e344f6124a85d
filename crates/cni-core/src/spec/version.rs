//! Versions of the specification.

use std::fmt;
use std::str::FromStr;

use super::{Code, Error};

/// A published version of the CNI specification, in the order of publication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[allow(missing_docs)] // the names document themselves
pub enum Version {
    /// The version of a configuration without `cniVersion`.
    #[default]
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version. Values in memory have its form.
    pub const NEWEST: Version = Version::V1_1_0;

    /// The version as a string, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// All versions in one line, for messages.
    pub fn list() -> String {
        Version::ALL.map(Version::as_str).join(", ")
    }

    /// Requires that a result of this version has room for so many addresses: before 0.3.0 it has
    /// one of each family. `what` is what is counted, for the message.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`].
    pub fn has_room_for(self, v4: usize, v6: usize, what: &str) -> Result<(), Error> {
        if self >= Version::V0_3_0 || (v4 <= 1 && v6 <= 1) {
            return Ok(());
        }
        Err(Error::invalid_config(format!(
            "{v4} IPv4 and {v6} IPv6 {what} are configured, and cniVersion {self} has one address of each family"
        )))
    }

    /// Whether CHECK exists (0.4.0).
    pub fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// Whether GC and STATUS exist (1.1.0).
    pub fn has_gc(self) -> bool {
        self >= Version::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    /// The empty string is 0.1.0, as a missing `cniVersion` is.
    fn from_str(text: &str) -> Result<Version, Error> {
        if text.is_empty() {
            return Ok(Version::default());
        }
        Version::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            Error::new(Code::INCOMPATIBLE_VERSION, format!("cniVersion {text:?} is not supported"))
                .details(format!("supported versions: {}", Version::list()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert_eq!("".parse(), Ok(Version::V0_1_0));
    }

    #[test]
    fn before_0_3_0_there_is_one_address_of_each_family() {
        assert!(Version::V0_2_0.has_room_for(1, 1, "addresses").is_ok());
        assert!(Version::V0_3_0.has_room_for(2, 2, "addresses").is_ok());
        let error = Version::V0_2_0.has_room_for(0, 2, "addresses").unwrap_err();
        assert!(error.to_string().contains("0 IPv4 and 2 IPv6 addresses"), "{error}");
    }

    #[test]
    fn the_error_of_an_unknown_version_lists_the_known_ones() {
        let error = "1.2.0".parse::<Version>().unwrap_err();
        assert_eq!(error.code(), Code::INCOMPATIBLE_VERSION);
        assert!(error.to_string().contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
    }
}

//! Names from outside that are used in paths and in the kernel.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Code, Error};

/// Defines a checked string. The check is the only way to make one.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:path, $code:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<$name, Error> {
                match $check(text) {
                    Ok(()) => Ok($name(text.to_owned())),
                    Err(reason) => Err(Error::new($code, format!("{} {}: {reason}", $name::WHAT, Shortened(text)))),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<$name, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name! {
    /// `CNI_CONTAINERID`: starts with a letter or digit, then letters, digits, `_`, `.` and `-`
    /// (specification, section 2). At most 255 bytes, so that it fits into a file name.
    ContainerId, check_identifier, Code::INVALID_ENVIRONMENT
}

checked_name! {
    /// A network's `name`, with the characters of a [`ContainerId`] (specification, section 1).
    NetworkName, check_identifier, Code::INVALID_CONFIG
}

checked_name! {
    /// An interface name that the kernel accepts (`dev_valid_name` in net/core/dev.c): 1 to 15
    /// bytes, no `/`, `:` or white space, not `.` or `..`. No interface has a `%` in its name: the
    /// kernel takes it for a place where it puts a number (`dev_get_valid_name`).
    IfName, check_ifname, Code::INVALID_ENVIRONMENT
}

checked_name! {
    /// The name by which a configuration refers to an interface that exists: its name, or one of its
    /// alternative names of up to 127 bytes (`ip link property add`, `ALTIFNAMSIZ` of
    /// include/uapi/linux/if.h).
    LinkName, check_link_name, Code::INVALID_CONFIG
}

checked_name! {
    /// A plugin's `type`: the name of a file in one of the folders of `CNI_PATH`, not a path.
    PluginType, check_file_name, Code::INVALID_CONFIG
}

impl ContainerId {
    const WHAT: &'static str = "container id";
}

impl NetworkName {
    const WHAT: &'static str = "network name";
}

impl IfName {
    const WHAT: &'static str = "interface name";
}

impl LinkName {
    const WHAT: &'static str = "interface name";
}

impl PluginType {
    const WHAT: &'static str = "plugin type";
}

fn check_identifier(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else {
        return Err("is empty");
    };
    if bytes.len() > 255 {
        return Err("is longer than 255 bytes");
    }
    if !first.is_ascii_alphanumeric() {
        return Err("must start with a letter or a digit");
    }
    if bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b)) {
        Ok(())
    } else {
        Err("may only have letters, digits, '_', '.' and '-'")
    }
}

fn check_ifname(text: &str) -> Result<(), &'static str> {
    match text {
        "" => return Err("is empty"),
        "." | ".." => return Err("is reserved"),
        _ if text.len() > 15 => return Err("is longer than the kernel's 15 bytes"),
        _ => {}
    }
    if text.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
        return Err("may not have '/', ':' or white space");
    }
    if text.contains('%') {
        return Err("may not have '%', in whose place the kernel puts a number");
    }
    Ok(())
}

fn check_link_name(text: &str) -> Result<(), &'static str> {
    match text.len() {
        0 => Err("is empty"),
        1..=127 if !text.contains('\0') => Ok(()),
        1..=127 => Err("may not have a NUL"),
        _ => Err("is longer than the 127 bytes of an alternative name"),
    }
}

fn check_file_name(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("is not the name of a plugin"),
        _ if text.contains(['/', '\0']) => Err("must be a file name, not a path"),
        _ if text.len() > 255 => Err("is longer than 255 bytes"),
        _ => Ok(()),
    }
}

/// A quoted name of at most 64 characters.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(64) {
            None => write!(f, "{:?}", self.0),
            Some((cut, _)) => write!(f, "{:?}...", &self.0[..cut]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifiers_follow_the_specification() {
        for good in ["a", "0", "pod-1_x.y", "A.-_"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\n", "../x"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<ContainerId>().is_err());
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "a.100", "@x", "fifteen-bytes-x"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\u{2003}b", "br%d", "%"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_alternative_name_may_be_long() {
        for good in ["eth0".to_owned(), "uplink of the cell/7".to_owned(), "x".repeat(127)] {
            assert!(good.parse::<LinkName>().is_ok(), "{good}");
        }
        for bad in [String::new(), "a\0".to_owned(), "x".repeat(128)] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_plugin_type_is_one_file_name() {
        assert!("host-local".parse::<PluginType>().is_ok());
        for bad in ["", "..", "../../bin/sh", "/bin/sh", "a/b"] {
            let error = bad.parse::<PluginType>().unwrap_err();
            assert_eq!(error.code(), Code::INVALID_CONFIG);
        }
    }

    proptest! {
        #[test]
        fn a_checked_name_does_not_leave_its_folder(text in ".*") {
            let names = [text.parse::<ContainerId>().map(String::from), text.parse::<PluginType>().map(String::from)];
            for name in names.into_iter().flatten() {
                let path = std::path::Path::new("/dir").join(&name);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/dir")));
            }
        }
    }
}

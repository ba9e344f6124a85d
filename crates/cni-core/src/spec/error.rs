//! The error object of the specification.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Version, from_json};

/// The result of every fallible function of a plugin.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a failure, as a number (specification, section 5, "Error"; 100 and up are for
/// plugins).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The configuration requires a version of the specification that is not supported.
    pub const INCOMPATIBLE_VERSION: Code = Code(1);
    /// A key of the configuration is not supported; the message has the key and its value.
    pub const UNSUPPORTED_FIELD: Code = Code(2);
    /// The container is unknown and nothing was made: the runtime need not call DEL.
    pub const UNKNOWN_CONTAINER: Code = Code(3);
    /// Environment variables are missing, malformed, or name what can't be used (a CNI_NETNS that is no
    /// network namespace); the message names them. libcni has 8 for a namespace that can't be used, which
    /// no version of the specification has.
    pub const INVALID_ENVIRONMENT: Code = Code(4);
    /// Reading or writing failed.
    pub const IO: Code = Code(5);
    /// The input can't be decoded, for instance as JSON.
    pub const UNDECODABLE: Code = Code(6);
    /// The configuration can be decoded and is not valid.
    pub const INVALID_CONFIG: Code = Code(7);
    /// A transient condition: the same call may succeed later.
    pub const TRY_AGAIN: Code = Code(11);
    /// STATUS: no ADD can be served.
    pub const UNAVAILABLE: Code = Code(50);
    /// STATUS: no ADD can be served, and containers may have lost connectivity.
    pub const UNAVAILABLE_LIMITED: Code = Code(51);
    /// Ours: the kernel refused a netlink request or a system call.
    pub const KERNEL: Code = Code(100);
    /// Ours: no address is free.
    pub const EXHAUSTED: Code = Code(101);
    /// Ours: CHECK found a difference between the node and `prevResult`.
    pub const CHECK_FAILED: Code = Code(102);
    /// Ours: the output of another plugin is not that of a plugin.
    pub const DELEGATE: Code = Code(103);
    /// Ours: a firewall rule could not be made or removed.
    pub const FIREWALL: Code = Code(104);
    /// Ours: a defect of this program; it has undone what it had made.
    pub const PANIC: Code = Code(105);
    /// Ours: several steps failed; the details have all of them.
    pub const SEVERAL: Code = Code(106);
}

/// A failure, as it is printed for the runtime: a code, a short message, and details.
///
/// The message has the operation and its object, the details what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    code: Code,
    msg: String,
    details: String,
}

impl Error {
    /// An error with a message and no details yet.
    pub fn new(code: Code, msg: impl Into<String>) -> Error {
        Error { code, msg: msg.into(), details: String::new() }
    }

    /// [`Code::INVALID_CONFIG`] with a message.
    pub fn invalid_config(msg: impl Into<String>) -> Error {
        Error::new(Code::INVALID_CONFIG, msg)
    }

    /// [`Code::CHECK_FAILED`] with a message.
    pub fn check(msg: impl Into<String>) -> Error {
        Error::new(Code::CHECK_FAILED, msg)
    }

    /// [`Code::IO`] with the operation and the system's message.
    pub fn io(operation: impl fmt::Display, err: impl Into<io::Error>) -> Error {
        Error::new(Code::IO, format!("{operation}: {}", err.into()))
    }

    /// The failures of a teardown as one result: success without any. One failure is returned
    /// unchanged.
    ///
    /// # Errors
    /// [`Code::SEVERAL`] for two or more; the details have all of them.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        if errors.len() < 2 {
            return errors.pop().map_or(Ok(()), Err);
        }
        let msg = format!("{} steps failed, the first: {}", errors.len(), errors[0].msg);
        let all: Vec<String> = errors.iter().map(Error::to_string).collect();
        Err(Error::new(Code::SEVERAL, msg).details(all.join("; ")))
    }

    /// The same error with further details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Error {
        let details = details.into();
        if self.details.is_empty() {
            self.details = details;
        } else if !details.is_empty() {
            self.details = format!("{}; {details}", self.details);
        }
        self
    }

    /// The same error, its message preceded by the operation or its object.
    #[must_use]
    pub fn context(mut self, operation: impl fmt::Display) -> Error {
        self.msg = format!("{operation}: {}", self.msg);
        self
    }

    /// The same error under another code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Error {
        self.code = code;
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The short message.
    pub fn msg(&self) -> &str {
        &self.msg
    }

    /// The error object of the specification, as one JSON text.
    pub fn to_json(&self, version: Version) -> String {
        let object = ErrorObject {
            cni_version: version.as_str().to_owned(),
            code: self.code,
            msg: self.msg.clone(),
            details: self.details.clone(),
        };
        // Strings and numbers always have a JSON form.
        serde_json::to_string(&object).unwrap_or_default()
    }

    /// Reads the error object that another plugin printed; `None` where it is not an error object.
    pub fn from_json(text: &[u8]) -> Option<Error> {
        let object: ErrorObject = from_json(text, "error").ok()?;
        (object.code.0 != 0 || !object.msg.is_empty()).then_some(Error {
            code: object.code,
            msg: object.msg,
            details: object.details,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The error object in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorObject {
    #[serde(default)]
    cni_version: String,
    #[serde(default = "no_code")]
    code: Code,
    #[serde(default)]
    msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
}

fn no_code() -> Code {
    Code(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_goes_before_and_details_after() {
        let error =
            Error::new(Code::KERNEL, "no such device").context("adding a route").details("a").details("b");
        assert_eq!(error.to_string(), "adding a route: no such device; a; b");
    }

    #[test]
    fn an_error_object_reads_back() {
        let error = Error::new(Code::TRY_AGAIN, "busy").details("later");
        let text = error.to_json(Version::V1_1_0);
        assert_eq!(text, r#"{"cniVersion":"1.1.0","code":11,"msg":"busy","details":"later"}"#);
        assert_eq!(Error::from_json(text.as_bytes()), Some(error));
        assert_eq!(Error::from_json(b"{}"), None);
        assert_eq!(Error::from_json(b"garbage"), None);
    }

    #[test]
    fn all_keeps_one_error_and_joins_many() {
        let (a, b) = (Error::invalid_config("a"), Error::check("b"));
        assert_eq!(Error::all(vec![]), Ok(()));
        assert_eq!(Error::all(vec![a.clone()]), Err(a.clone()));
        let both = Error::all(vec![a, b]).unwrap_err();
        assert_eq!(both.code(), Code::SEVERAL);
        assert_eq!(both.to_string(), "2 steps failed, the first: a; a; b");
    }
}

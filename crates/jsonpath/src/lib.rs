//! Takes the place of the crate of this name, by `[patch.crates-io]`.
//!
//! kube reads the output of a command by JSONPath for one purpose: the authentication provider `gcp` of a
//! kubeconfig. client-go removed that provider in 1.26, so no kubeconfig of a node has it. The crate, with the
//! regular expressions that it brings, was an eighth of the program.

use std::fmt;

use serde_json::Value;

/// A path in a JSON document (RFC 9535).
pub trait JsonPath {
    /// The values at a path.
    ///
    /// # Errors
    /// Always: [`Refused`].
    fn query<'value>(&'value self, path: &str) -> Result<Vec<&'value Value>, Refused>;
}

impl JsonPath for Value {
    fn query<'value>(&'value self, _path: &str) -> Result<Vec<&'value Value>, Refused> {
        Err(Refused)
    }
}

/// Why no path is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the authentication provider gcp is not supported, nor by client-go since 1.26; use exec")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_refused_with_the_way_out() {
        let refused = Value::Null.query("{.credential}").unwrap_err();
        assert!(refused.to_string().contains("use exec"), "{refused}");
    }
}

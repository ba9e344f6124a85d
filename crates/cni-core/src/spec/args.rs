//! `CNI_ARGS`: `KEY=VALUE` pairs separated by semicolons.

use super::{Code, Error, Result};

/// The pairs of `CNI_ARGS`. Keys are case-sensitive, and a value can contain `=`.
///
/// A plugin lists its keys with [`CniArgs::only`]; any other key is an error unless the caller
/// sets `IgnoreUnknown=1`, as the runtimes of Kubernetes do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CniArgs(Vec<(String, String)>);

impl CniArgs {
    /// Reads the variable. The empty string has no pairs.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`] for a pair without `=` or without a key.
    pub fn parse(text: &str) -> Result<CniArgs> {
        let pairs = text.split(';').filter(|pair| !pair.is_empty());
        let parse = |pair: &str| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_ARGS: {pair:?} is not KEY=VALUE"))
                .details("pairs are separated by semicolons")),
        };
        pairs.map(parse).collect::<Result<_>>().map(CniArgs)
    }

    /// The value of a key. Of several pairs the last counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// These arguments with one pair replaced, for a delegate.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> CniArgs {
        let mut pairs: Vec<_> = self.0.iter().filter(|(k, _)| k != key).cloned().collect();
        pairs.push((key.to_owned(), value.to_owned()));
        CniArgs(pairs)
    }

    /// Refuses keys other than the known ones, unless `IgnoreUnknown` is set.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`], naming every unknown key.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.get("IgnoreUnknown").map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true") => return Ok(()),
            None | Some("0" | "false") => {}
            Some(other) => {
                return Err(Error::new(
                    Code::INVALID_ENVIRONMENT,
                    format!("CNI_ARGS: IgnoreUnknown={other:?} is neither true nor false"),
                ));
            }
        }
        let unknown: Vec<&str> = self
            .0
            .iter()
            .map(|(key, _)| key.as_str())
            .filter(|key| *key != "IgnoreUnknown" && !known.contains(key))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_ARGS: unknown keys: {}", unknown.join(", ")))
            .details(format!("known keys: {known}; IgnoreUnknown=1 allows others")))
    }
}

impl std::fmt::Display for CniArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_several_counts() {
        let args = CniArgs::parse("IP=1.2.3.4;MAC=02:00:00:00:00:01;IP=1.2.3.5").unwrap();
        assert_eq!(args.get("IP"), Some("1.2.3.5"));
        assert_eq!(args.get("ip"), None);
        assert_eq!(args.with("IP", "x").to_string(), "MAC=02:00:00:00:00:01;IP=x");
    }

    #[test]
    fn an_unknown_key_needs_ignore_unknown() {
        let args = |text| CniArgs::parse(text).unwrap();
        assert!(args("").only(&[]).is_ok());
        assert!(args("A=1;IgnoreUnknown=true").only(&[]).is_ok());
        assert!(args("A=1;IgnoreUnknown=maybe").only(&["A"]).is_err());
        let error = args("A=1;B=2;C=3").only(&["B"]).unwrap_err();
        assert!(error.to_string().contains("A, C"), "{error}");
    }

    #[test]
    fn a_value_can_contain_an_equals_sign() {
        let args = CniArgs::parse("K8S_POD_NAME=a=b=;IP=1.2.3.4").unwrap();
        assert_eq!(args.get("K8S_POD_NAME"), Some("a=b="));
        assert_eq!(args.get("IP"), Some("1.2.3.4"));
    }

    #[test]
    fn a_pair_has_a_key_and_a_value() {
        for bad in ["A", "=1", "A=1;B"] {
            assert_eq!(CniArgs::parse(bad).unwrap_err().code(), Code::INVALID_ENVIRONMENT, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(args) = CniArgs::parse(&text) {
                prop_assert_eq!(CniArgs::parse(&args.to_string()), Ok(args));
            }
        }
    }
}

//! Why a case ends early.

use super::Failure;
use crate::pattern;

/// Why a case goes no further.
pub(crate) enum Stop {
    /// The plugin does not meet the requirement.
    Failed(Box<Failure>),
    /// The suite could not do what the case wants.
    Broken(String),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Broken(text)
    }
}

impl Stop {
    /// A failure that is one sentence.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Box::new(Failure { message: message.into(), ..Failure::default() }))
    }

    /// A failure that is a difference.
    pub(crate) fn differs(message: impl Into<String>, difference: pattern::Difference) -> Self {
        let pattern::Difference { path, expected, actual } = difference;
        Self::Failed(Box::new(Failure {
            message: message.into(),
            path,
            expected,
            actual,
            ..Failure::default()
        }))
    }
}

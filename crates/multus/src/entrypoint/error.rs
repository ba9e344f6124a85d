use std::fmt;

/// What every fallible function here returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure as text: what was being done, to what, and what the system reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error(String);

impl Error {
    /// A failure without another error as its cause.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds to an error what was being done.
pub(crate) trait Context<T> {
    /// The same result; the text of its error starts with the operation.
    ///
    /// # Errors
    /// Where `self` is one.
    fn context(self, operation: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| Error(format!("{}: {err}", operation())))
    }
}

//! Why a pod is not attached.

use cni_core::spec::Error;

/// The reasons that `kubectl describe pod` shows, each with the error for the runtime.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A network of the pod can't be read.
    NoNetworkFound(Error),
    /// Any other.
    FailedAttach(Error),
}

impl Failure {
    /// The `reason` of the pod's event, as the Go program names it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Failure::NoNetworkFound(_) => "NoNetworkFound",
            Failure::FailedAttach(_) => "FailedAttach",
        }
    }

    /// The error.
    pub(crate) fn error(&self) -> &Error {
        match self {
            Failure::NoNetworkFound(err) | Failure::FailedAttach(err) => err,
        }
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Failure {
        Failure::FailedAttach(err)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::NoNetworkFound(err) | Failure::FailedAttach(err) => err,
        }
    }
}

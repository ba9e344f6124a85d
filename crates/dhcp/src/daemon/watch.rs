//! Descriptors whose events the event loop sees.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// Has the event loop watch something that owns its descriptor: a socket, a timer, a signalfd.
///
/// # Errors
/// Those of epoll_ctl(2).
#[allow(unsafe_code)] // tokio can't know that a type owns its descriptor
pub(crate) fn watch<T: AsFd + AsRawFd + 'static>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types that are passed here own their descriptor, give the same one always, and
    // close it when they are dropped, which `AsyncFd` does after it has taken it off the list.
    Ok(unsafe { AsyncFd::register(source) }?)
}

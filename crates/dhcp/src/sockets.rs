//! Where the daemon's sockets are, and how they are reached.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// The socket of this project's daemon; its folder is the daemon's own.
pub(crate) const OWN: &str = "/run/oxcni/dhcp.sock";

/// The socket of the Go daemon, which this one serves too where no other daemon does.
pub(crate) const COMMON: &str = "/run/cni/dhcp.sock";

/// The sockets that a plugin tries, in this order.
pub(crate) fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    match configured {
        Some(path) => vec![path.to_owned()],
        None => vec![OWN.into(), COMMON.into()],
    }
}

/// Connects to a socket. A daemon that is stopped accepts nothing, and the kernel would wait for it without end once
/// its backlog is full (`unix_stream_connect` in net/unix/af_unix.c).
///
/// # Errors
/// Those of connect(2), `WouldBlock` where the limit passed.
pub(crate) fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_accepts_nothing_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let waiting: Vec<_> = (0..4).map(|_| connect(&path, Duration::from_millis(10))).collect();
        assert!(waiting[0].is_ok(), "{waiting:?}");
        assert_eq!(waiting[3].as_ref().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(
            connect(&path, Duration::from_secs(9)).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}

//! Where the daemon's sockets are.

use std::path::{Path, PathBuf};

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

//! What systemd gives and wants (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::rc::Rc;

use cni_core::spec::{Code, Error, Result};

use super::clock::Clock;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// The socket that systemd hands over, where it does.
///
/// # Errors
/// Where it hands over several.
#[allow(unsafe_code)] // a descriptor comes as a number
pub(crate) fn socket() -> Result<Option<UnixListener>> {
    use std::os::fd::FromRawFd;
    let variable = |name: &str| std::env::var(name).ok();
    if variable("LISTEN_PID").is_none_or(|pid| pid != std::process::id().to_string()) {
        return Ok(None);
    }
    match variable("LISTEN_FDS").as_deref() {
        None | Some("" | "0") => Ok(None),
        // SAFETY: systemd opened it for this process, and nothing else takes it: this runs once.
        Some("1") => Ok(Some(unsafe { UnixListener::from_raw_fd(FIRST) })),
        Some(count) => Err(Error::new(Code::INVALID_CONFIG, format!("systemd hands over {count} sockets"))
            .details("the socket unit may have one ListenStream=")),
    }
}

/// Reports a state to systemd, if it listens.
pub(crate) fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(err) = sent {
        super::log::log(super::log::Level::Warning, "notify-failed", &[("path", &path), ("why", &err)]);
    }
}

/// Reports twice in the watchdog's time that the event loop runs; ends where there is no watchdog.
pub(crate) async fn watchdog(clock: Rc<Clock>) {
    let microseconds = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse::<u64>().ok());
    let meant = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let Some(period) = microseconds.filter(|_| meant).map(|us| (us / 2000).max(1)) else { return };
    loop {
        notify("WATCHDOG=1");
        clock.sleep(period).await;
    }
}

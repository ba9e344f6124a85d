//! The daemon: one process, one thread, a task for each attachment.

mod add;
mod attachment;
mod begin;
mod clock;
mod closer;
mod configure;
mod conflict;
mod events;
mod filter;
mod flags;
mod inbox;
mod ipv4;
mod ipv6;
mod ipv6_lease;
mod ipv6_port;
mod listen;
mod log;
mod on_link;
mod place;
mod port;
mod report;
mod serve;
mod store;
mod systemd;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use cni_core::spec::{Error, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::task::{LocalSet, spawn_local};

use crate::protocol::Id;
use attachment::Attachment;
use clock::Clock;
use flags::Flags;
use listen::Listeners;
use log::{Level, log};
use store::Store;

/// Where leases are kept: gone after a reboot, as the containers are.
const LEASES: &str = "/run/cni/dhcp";

/// What all tasks share.
pub(crate) struct Daemon {
    flags: Flags,
    clock: Rc<Clock>,
    store: Store,
    attachments: RefCell<HashMap<Id, Rc<Attachment>>>,
}

/// Runs `dhcp daemon` with its arguments.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let flags = match Flags::parse(args) {
        Ok(flags) if flags.help => {
            println!("{}", flags::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(flags) => flags,
        Err(problem) => {
            eprintln!("dhcp daemon: {problem}\n\n{}", flags::USAGE);
            return ExitCode::from(2);
        }
    };
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            log(Level::Error, "stopped", &[("why", &err)]);
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<()> {
    let failed = |operation: &'static str| move |err: std::io::Error| Error::io(operation, err);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed("starting the event loop"))?;
    LocalSet::new().block_on(&runtime, run(flags))
}

async fn run(flags: Flags) -> Result<()> {
    raise_open_files();
    let mut signals = signals()?;
    let handed_over = systemd::socket()?;
    // The lock of the leases comes first: of two daemons that start together one gets the sockets.
    let store = Store::open(&flags.on_host(&leases_folder(&flags)))?;
    let listeners = Listeners::open(&flags, handed_over)?;
    if let Some(path) = &flags.pid_file {
        let pid = std::process::id().to_string();
        cni_core::fs::replace(path, pid.as_bytes(), 0o644)
            .map_err(|err| cni_core::fs::failed("writing", path, err))?;
    }
    let clock = Clock::new().map_err(|err| Error::io("making a timer", err))?;
    spawn_local(clock.clone().drive());
    let daemon = Rc::new(Daemon { flags, clock, store, attachments: RefCell::default() });
    daemon.resume()?;
    for socket in &listeners.sockets {
        let socket = socket.try_clone().map_err(|err| Error::io("duplicating a socket", err))?;
        spawn_local(accept(daemon.clone(), tokio_listener(socket)?));
    }
    spawn_local(systemd::watchdog(daemon.clock.clone()));
    systemd::notify("READY=1");
    log(Level::Info, "started", &[("leases", &daemon.attachments.borrow().len())]);

    let signal = next_signal(&mut signals).await;
    log(Level::Info, "stopping", &[("signal", &signal), ("leases", &daemon.attachments.borrow().len())]);
    systemd::notify("STOPPING=1");
    listeners.remove();
    if let Some(path) = &daemon.flags.pid_file {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Allows as many open files as an administrator does: where a server is away, each attachment waits with sockets of
/// its own, and the usual soft limit is for programs that use select(2).
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The folder of the leases; that of another socket is another one.
fn leases_folder(flags: &Flags) -> PathBuf {
    match &flags.socket_path {
        None => PathBuf::from(LEASES),
        Some(path) => Path::new(LEASES).join(store::folder_of_socket(path)),
    }
}

fn tokio_listener(socket: UnixListener) -> Result<tokio::net::UnixListener> {
    let converted = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(socket));
    converted.map_err(|err| Error::io("listening", err))
}

async fn accept(daemon: Rc<Daemon>, socket: tokio::net::UnixListener) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => drop(spawn_local(serve::serve(daemon.clone(), stream))),
            // No more descriptors: others are closed soon.
            Err(err) => {
                log(Level::Error, "accept-failed", &[("why", &err)]);
                daemon.clock.sleep(100).await;
            }
        }
    }
}

/// The signals that end the daemon, as events.
fn signals() -> Result<AsyncFd<SignalFd>> {
    let ending = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let signals = ending
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| Error::io("waiting for signals", errno))?;
    watch::watch(signals).map_err(|err| Error::io("waiting for signals", err))
}

async fn next_signal(signals: &mut AsyncFd<SignalFd>) -> String {
    loop {
        let Ok(mut ready) = signals.readable().await else { return "none".to_owned() };
        ready.clear_ready();
        if let Ok(Some(info)) = signals.get_ref().read_signal() {
            let signal = Signal::try_from(info.ssi_signo as i32);
            return signal.map_or_else(|_| info.ssi_signo.to_string(), |signal| signal.to_string());
        }
    }
}

impl Daemon {
    /// Goes on with the leases of an earlier daemon.
    fn resume(self: &Rc<Daemon>) -> Result<()> {
        for leases in self.store.load()? {
            let id = leases.target.id.clone();
            match Attachment::resume(self, leases) {
                Ok(attachment) => self.start(attachment),
                Err(gone) => {
                    let why = format!("{gone}: the lease is not released, and ends by itself");
                    log(Level::Info, "lease-dropped", &[("attachment", &id.text()), ("why", &why)]);
                    self.store.remove(&id)?;
                }
            }
        }
        Ok(())
    }

    /// Has an attachment run.
    fn start(&self, attachment: Rc<Attachment>) {
        self.attachments.borrow_mut().insert(attachment.target.id.clone(), attachment.clone());
        spawn_local(attachment.clone().run_ipv6());
        spawn_local(attachment.run_ipv4());
    }

    /// The attachment of an id.
    fn attachment(&self, id: &Id) -> Option<Rc<Attachment>> {
        self.attachments.borrow().get(id).cloned()
    }

    /// All attachments.
    fn all(&self) -> Vec<Rc<Attachment>> {
        self.attachments.borrow().values().cloned().collect()
    }

    /// Takes an attachment off the list.
    fn forget(&self, attachment: &Attachment) {
        let id = &attachment.target.id;
        let mut attachments = self.attachments.borrow_mut();
        if attachments.get(id).is_some_and(|known| std::ptr::eq(&**known, attachment)) {
            attachments.remove(id);
        }
    }
}

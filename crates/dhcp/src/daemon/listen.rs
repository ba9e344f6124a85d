//! The sockets that the daemon listens at.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_core::spec::{Code, Error, Result};

use super::flags::Flags;
use super::log::{Level, log};
use crate::sockets;

/// How long a daemon that may listen already may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sockets, and the files that go with them.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) sockets: Vec<UnixListener>,
    /// Files to remove at the end, with their device and inode.
    files: Vec<(PathBuf, Option<(u64, u64)>)>,
}

impl Listeners {
    /// Opens the sockets: that of `-socketpath` alone; else that which systemd handed over, or
    /// this project's own, and the common one where no daemon answers there.
    ///
    /// # Errors
    /// When one can't be made, or another daemon answers at it.
    pub(crate) fn open(flags: &Flags, handed_over: Option<UnixListener>) -> Result<Listeners> {
        let mut listeners = Listeners::default();
        let own = flags.on_host(flags.socket_path.as_deref().unwrap_or(Path::new(sockets::OWN)));
        match handed_over {
            Some(socket) => listeners.sockets.push(socket),
            None => listeners.bind(&own)?,
        }
        if flags.socket_path.is_none() {
            let common = flags.on_host(Path::new(sockets::COMMON));
            // Another daemon may serve the node's other plugins.
            if let Err(err) = listeners.bind(&common) {
                log(Level::Info, "socket-left-alone", &[("path", &common.display()), ("why", &err)]);
            }
        }
        Ok(listeners)
    }

    fn bind(&mut self, path: &Path) -> Result<()> {
        let failed = |operation: &str, err: io::Error| cni_core::fs::failed(operation, path, err);
        // One that is alive and too busy to answer is alive.
        if !matches!(sockets::connect(path, PATIENCE), Err(err) if err.kind() != io::ErrorKind::WouldBlock) {
            return Err(Error::new(Code::TRY_AGAIN, format!("another daemon answers at {}", path.display())));
        }
        if let Some(folder) = path.parent()
            && !folder.exists()
        {
            let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            make.map_err(|err| failed("making the folder of", err))?;
        }
        // A daemon that was killed leaves its socket behind, and bind(2) refuses a name that is taken.
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing the old socket", err));
            }
            _ => {}
        }
        let socket = UnixListener::bind(path).map_err(|err| failed("listening at", err))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|err| failed("setting the mode of", err))?;
        self.sockets.push(socket);
        self.files.push((path.to_owned(), identity(path)));
        Ok(())
    }

    /// Removes the files of the sockets, unless another daemon has put its own there since.
    pub(crate) fn remove(&self) {
        for (file, made) in &self.files {
            if made.is_some() && identity(file) == *made {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

//! Closing packet sockets without holding up the event loop: the kernel waits for RCU then
//! (`packet_release` in net/packet/af_packet.c), some 10 ms for each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// A second descriptor of a socket. It has to be dropped after the first one: the last is closed
/// in a thread of its own, one for the whole process.
pub(crate) struct ClosedLater(Option<OwnedFd>);

impl ClosedLater {
    /// That of a socket.
    ///
    /// # Errors
    /// Those of dup(2).
    pub(crate) fn of(socket: impl AsFd) -> io::Result<ClosedLater> {
        socket.as_fd().try_clone_to_owned().map(|fd| ClosedLater(Some(fd)))
    }
}

impl Drop for ClosedLater {
    fn drop(&mut self) {
        static CLOSER: OnceLock<Sender<OwnedFd>> = OnceLock::new();
        let closer = CLOSER.get_or_init(|| {
            let (sender, descriptors) = channel::<OwnedFd>();
            // Without a thread the channel is closed, and the descriptor with what can't be sent.
            let _ = std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || descriptors.into_iter().for_each(drop));
            sender
        });
        if let Some(fd) = self.0.take() {
            let _ = closer.send(fd);
        }
    }
}

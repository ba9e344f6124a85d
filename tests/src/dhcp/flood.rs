//! A machine of the network that sends without end.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::eventually;

/// Datagrams that are sent again and again until this is dropped.
#[derive(Debug)]
pub struct Flood {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends the datagram that `make` gives for each number.
    pub fn start(socket: UdpSocket, to: SocketAddr, make: impl Fn(u64) -> Vec<u8> + Send + 'static) -> Flood {
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (ended, sent) = (ended.clone(), sent.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    if socket.send_to(&make(sent.load(Ordering::Relaxed)), to).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Flood { ended, sent, thread: Some(thread) }
    }

    /// Waits until so many were sent.
    #[track_caller]
    pub fn sends(&self, count: u64) {
        let sent = || self.sent.load(Ordering::Relaxed);
        assert!(eventually(|| sent() >= count), "sent {}, not {count}", sent());
    }
}

impl Flood {
    /// Ends it: how many were sent.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

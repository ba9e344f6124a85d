//! What scripted servers of both protocols have in common: a thread that answers at a socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A message of a client.
pub trait Message: Clone + Send + Sized + 'static {
    /// The message in some bytes; `None` where they are too few.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Its type.
    fn kind(&self) -> u8;
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server<M> {
    seen: Arc<Mutex<Vec<M>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Message> Server<M> {
    /// A server at a socket. `answer` gets it, each message, how many of its type came before, and who sent it.
    pub(super) fn run(
        socket: UdpSocket,
        answer: impl Fn(&UdpSocket, &M, usize, SocketAddr) + Send + 'static,
    ) -> Server<M> {
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time limit");
        let (seen, ended) = (Arc::new(Mutex::new(Vec::<M>::new())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, ended) = (seen.clone(), ended.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let mut buffer = [0; 2048];
                    let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                    let Some(message) = M::read(&buffer[..length]) else { continue };
                    let before = {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.push(message.clone());
                        seen.iter().filter(|earlier| earlier.kind() == message.kind()).count() - 1
                    };
                    answer(&socket, &message, before, client);
                }
            }
        });
        Server { seen, ended, thread: Some(thread) }
    }

    /// All messages of a type that came.
    pub fn seen(&self, kind: u8) -> Vec<M> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|message| message.kind() == kind).cloned().collect()
    }
}

impl<M> Drop for Server<M> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

//! Talking to the kernel's routing and link layer (rtnetlink(7)).
//!
//! A [`Netlink`] is a socket, and a socket keeps talking to the network namespace in which it
//! was opened. A plugin holds two: one for the host, one for the container. Calls block: the
//! kernel answers a request of this kind before `send` returns, so there is nothing to gain
//! from waiting asynchronously, and a runtime for it would cost more than the requests.
//!
//! Every failure carries the kernel's own words where it gave some (`NETLINK_EXT_ACK`).

mod address;
mod bridge;
mod create;
mod link;
mod message;
mod route;
mod uapi;
mod wait;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::AsFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;

use crate::netns::Netns;
use crate::spec::{Code, Error};

pub use address::Address;
pub use bridge::{BridgePort, BridgeVlan};
pub use create::{IpvlanMode, Kind, MacvlanMode, NewLink};
pub use link::{Link, OperState};
pub use nix::errno::Errno;
pub use route::InstalledRoute;

use message::{Answer, Message, acknowledgement, answers};

/// Large enough for every part of a dump (the kernel fills at most 32 KiB at a time,
/// `netlink_dump` in net/netlink/af_netlink.c).
const RECEIVE_BUFFER: usize = 64 << 10;

/// How often a list is asked for that changes while the kernel tells it.
const DUMP_TRIES: u32 = 5;

/// What the kernel answered in place of success: an error number and its own words.
type Refusal = (Errno, String);

/// A connection to the kernel in one network namespace.
pub struct Netlink {
    socket: Socket,
    /// The namespace it was opened in, where that is not the thread's own.
    netns: Option<Netns>,
    seq: Cell<u32>,
    buffer: RefCell<Vec<u8>>,
}

/// What the kernel refused.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was tried, to what: "deleting interface eth0".
    pub operation: String,
    /// The error number.
    pub errno: Errno,
    /// The message that the kernel gave with it (`NETLINK_EXT_ACK`); empty where it gave none.
    pub kernel_message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.errno.desc())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let mut details = Vec::new();
        if !failure.kernel_message.is_empty() {
            details.push(format!("kernel message: {}", failure.kernel_message));
        }
        match failure.errno {
            Errno::EPERM => details.push("CAP_NET_ADMIN is needed".to_owned()),
            Errno::EOPNOTSUPP => details.push("this kernel lacks it, or its module is not loaded".to_owned()),
            _ => {}
        }
        Error::new(Code::KERNEL, failure.to_string()).details(details.join("; "))
    }
}

/// The result of a request.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Netlink {
    /// Opens a connection to the namespace that this thread is in.
    ///
    /// # Errors
    /// When the process may not have another socket.
    pub fn open() -> Result<Netlink> {
        let opening = |err: std::io::Error| failure("opening a netlink socket", &err);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(opening)?;
        // Older kernels know neither of these three; all of them only make answers better.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        socket.bind(&SocketAddr::new(0, 0)).map_err(opening)?;
        Ok(Netlink {
            socket,
            netns: None,
            seq: Cell::new(0),
            buffer: RefCell::new(Vec::with_capacity(RECEIVE_BUFFER)),
        })
    }

    /// Opens a connection to another namespace.
    ///
    /// # Errors
    /// When the namespace can't be entered or the socket can't be opened.
    pub fn open_in(netns: &Netns) -> crate::spec::Result<Netlink> {
        let netlink = netns.enter(Netlink::open)??;
        Ok(Netlink { netns: Some(netns.try_clone()?), ..netlink })
    }

    /// Sends a request that changes something and waits for its acknowledgement. `seen` gets
    /// what the kernel echoes of it (`NLM_F_ECHO`).
    fn change(
        &self,
        message: Message,
        operation: impl FnOnce() -> String,
        mut seen: impl FnMut(&Answer<'_>),
    ) -> Result<()> {
        let mut all = |answer: &Answer<'_>| {
            seen(answer);
            false
        };
        self.exchange(message, &mut all).map_err(|(errno, kernel_message)| Failure {
            operation: operation(),
            errno,
            kernel_message,
        })
    }

    /// Sends a request without an interest in what it echoes.
    fn apply(&self, message: Message, operation: impl FnOnce() -> String) -> Result<()> {
        self.change(message, operation, |_| ())
    }

    /// Sends a request for data and collects what `read` makes of each message.
    fn query<T>(
        &self,
        message: Message,
        operation: impl FnOnce() -> String,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let asked = whole(|found| {
            self.exchange(message.clone(), &mut |answer| {
                found.extend(read(answer));
                false
            })
        });
        asked.map_err(|(errno, kernel_message)| Failure { operation: operation(), errno, kernel_message })
    }

    /// Sends a request for one thing, which comes in one message and without an acknowledgement.
    fn first<T>(
        &self,
        message: Message,
        operation: impl FnOnce() -> String,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut found = None;
        let asked = self.exchange(message, &mut |answer| {
            found = read(answer);
            found.is_some()
        });
        asked.map(|()| found).map_err(|(errno, kernel_message)| Failure {
            operation: operation(),
            errno,
            kernel_message,
        })
    }

    /// Sends a request and reads answers until the kernel says that it is done, or `seen` that
    /// it has seen enough.
    fn exchange(&self, message: Message, seen: &mut dyn FnMut(&Answer<'_>) -> bool) -> Result<(), Refusal> {
        let system = |err: std::io::Error| (Errno::from_raw(err.raw_os_error().unwrap_or(0)), String::new());
        let seq = self.seq.get() + 1;
        self.seq.set(seq);
        self.socket.send(&message.finish(seq), 0).map_err(system)?;
        let mut buffer = self.buffer.borrow_mut();
        let mut reading = Reading { seq, interrupted: false };
        loop {
            buffer.clear();
            match self.socket.recv(&mut *buffer, 0) {
                Ok(_) => {}
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(system(err)),
            }
            if let Some(end) = reading.take(&buffer, seen) {
                return end;
            }
        }
    }
}

/// The answer to one request, as far as it was read.
struct Reading {
    seq: u32,
    /// What is listed changed between two parts of the list, which may lack any of it.
    interrupted: bool,
}

impl Reading {
    /// Takes in what one read from the socket gave; how the answer ended, where it did.
    /// `EINTR` is the end of a list that changed while it was told.
    fn take(
        &mut self,
        bytes: &[u8],
        seen: &mut dyn FnMut(&Answer<'_>) -> bool,
    ) -> Option<Result<(), Refusal>> {
        for answer in answers(bytes).filter(|answer| answer.seq == self.seq) {
            self.interrupted |= i32::from(answer.flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(answer.kind) {
                libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                    return Some(match acknowledgement(&answer) {
                        (0, _) if self.interrupted => {
                            Err((Errno::EINTR, "what is listed changes all the time".to_owned()))
                        }
                        (0, _) => Ok(()),
                        (errno, words) => Err((Errno::from_raw(errno), words)),
                    });
                }
                _ if seen(&answer) => return Some(Ok(())),
                _ => {}
            }
        }
        None
    }
}

/// Asks for a list until one comes that did not change while it was told.
fn whole<T>(mut ask: impl FnMut(&mut Vec<T>) -> Result<(), Refusal>) -> Result<Vec<T>, Refusal> {
    let mut tries = 1;
    loop {
        let mut found = Vec::new();
        match ask(&mut found) {
            Err((Errno::EINTR, _)) if tries < DUMP_TRIES => tries += 1,
            asked => return asked.map(|()| found),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failure(operation: &str, err: &std::io::Error) -> Failure {
    let errno = Errno::from_raw(err.raw_os_error().unwrap_or(0));
    Failure { operation: operation.to_owned(), errno, kernel_message: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: u16 = 16;
    const DONE: u16 = libc::NLMSG_DONE as u16;

    /// A part of an answer as the kernel sends it: messages of a type, flags and a number.
    fn part(seq: u32, messages: &[(u16, i32, u32)]) -> Vec<u8> {
        let message = |&(kind, flags, number): &(u16, i32, u32)| {
            Message::new(kind, flags, &number.to_ne_bytes()).finish(seq)
        };
        messages.iter().flat_map(message).collect()
    }

    /// Asks until the list is whole; each time the answer is the next of `lists`.
    fn ask(lists: &[Vec<Vec<u8>>]) -> (Result<Vec<u32>, Refusal>, usize) {
        let mut asked = 0;
        let found = whole(|found| {
            let parts = &lists[asked];
            asked += 1;
            let mut reading = Reading { seq: 7, interrupted: false };
            let mut seen = |answer: &Answer<'_>| {
                found.extend(message::u32_at(answer.body, 0));
                false
            };
            parts.iter().find_map(|part| reading.take(part, &mut seen)).expect("an end")
        });
        (found, asked)
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_asked_for_again() {
        let interrupted = libc::NLM_F_DUMP_INTR;
        let whole = vec![part(7, &[(KIND, 0, 1), (KIND, 0, 2)]), part(7, &[(KIND, 0, 3), (DONE, 0, 0)])];
        assert_eq!(ask(std::slice::from_ref(&whole)), (Ok(vec![1, 2, 3]), 1));

        let in_the_middle = vec![part(7, &[(KIND, 0, 1), (KIND, interrupted, 3)]), part(7, &[(DONE, 0, 0)])];
        let at_the_end = vec![part(7, &[(KIND, 0, 1), (DONE, interrupted, 0)])];
        assert_eq!(ask(&[in_the_middle, at_the_end.clone(), whole]), (Ok(vec![1, 2, 3]), 3));

        let (found, asked) = ask(&vec![at_the_end; 9]);
        assert_eq!((found.unwrap_err().0, asked), (Errno::EINTR, 5));
    }

    #[test]
    fn answers_to_another_request_are_passed_over() {
        let late = part(6, &[(KIND, libc::NLM_F_DUMP_INTR, 9), (DONE, 0, 0)]);
        assert_eq!(ask(&[vec![late, part(7, &[(KIND, 0, 1), (DONE, 0, 0)])]]), (Ok(vec![1]), 1));
    }
}

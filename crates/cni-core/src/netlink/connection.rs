//! One socket to a protocol of netlink(7): requests are sent, answers received.
//!
//! What a container's namespace holds may make a request fail, but never wait for ever: an answer
//! that is longer than the buffer is requested again with a longer one, every receive and every
//! exchange has a time limit, and a list has a limit of entries.

use std::cell::Cell;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::message::{Answer, Malformed, Message, TooLong, acknowledgement, answers};

/// The first size of the receive buffer: the kernel fills at most 32 KiB of a list at a time
/// (`netlink_recvmsg` in net/netlink/af_netlink.c), except where one entry is larger.
const RECEIVE_BUFFER: usize = 32 << 10;

/// How long one receive may wait. The kernel queues the answer before `send` returns, so that a
/// receive waits at all only where the answer was lost.
const RECEIVE_LIMIT: Duration = Duration::from_secs(5);

/// How long all answers to one request may take.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(20);

/// How often one answer is received again after an error of the socket.
const RECEIVE_TRIES: u32 = 3;

/// How often an answer is requested: a list may have changed while the kernel sent it, and an answer
/// may be longer than the buffer.
const TRIES: u32 = 5;

/// The most entries that are kept of one list.
const LIST_MAX: usize = 1 << 16;

/// The send buffer of a socket by default (`net.core.wmem_default`), which limits a message.
const SEND_BUFFER: usize = 200 << 10;

/// What the kernel answers to a request that it refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// The message that the kernel gave with it; empty where it gave none.
    pub(crate) kernel_message: String,
    /// No answer arrived, so that the kernel may have done what was requested.
    pub(crate) unanswered: bool,
}

impl Refusal {
    pub(crate) fn new(errno: Errno, kernel_message: impl Into<String>) -> Refusal {
        Refusal { errno, kernel_message: kernel_message.into(), unanswered: false }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(err: std::io::Error) -> Refusal {
        Refusal::new(Errno::from_raw(err.raw_os_error().unwrap_or(0)), "")
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::new(errno, "")
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Refusal {
        Refusal::new(Errno::EBADMSG, "the answer is cut or malformed")
    }
}

impl From<TooLong> for Refusal {
    fn from(_: TooLong) -> Refusal {
        Refusal::new(Errno::EMSGSIZE, "the request is too long")
    }
}

thread_local! {
    /// The receive buffer of all connections: a plugin has two or three, and reads from one at a time.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A socket, in the network namespace in which it was opened.
pub(crate) struct Connection {
    socket: Socket,
    seq: Cell<u32>,
}

/// What to do after a message of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the next one.
    Continue,
    /// The answer is complete.
    Stop,
}

impl Connection {
    /// Opens a connection to a protocol (`NETLINK_ROUTE`, …) in the namespace of this thread.
    pub(crate) fn open(protocol: isize) -> std::io::Result<Connection> {
        let mut socket = Socket::new(protocol)?;
        // All three only improve answers, and older kernels lack them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        socket.bind(&SocketAddr::new(0, 0))?;
        Connection::with_limit(socket, RECEIVE_LIMIT)
    }

    fn with_limit(socket: Socket, limit: Duration) -> std::io::Result<Connection> {
        let limit = TimeVal::new(limit.as_secs() as i64, i64::from(limit.subsec_micros()));
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        Ok(Connection { socket, seq: Cell::new(0) })
    }

    /// Sends a request for a change, and hands the object that the kernel sends back to `read`, until the kernel
    /// acknowledges the change or `read` ends it.
    pub(crate) fn change(
        &self,
        message: &Message,
        read: impl FnMut(&Answer<'_>) -> Result<Next, Refusal>,
    ) -> Result<(), Refusal> {
        self.request(Expected::Acknowledgement, message, read)
    }

    fn request(
        &self,
        expected: Expected,
        message: &Message,
        mut read: impl FnMut(&Answer<'_>) -> Result<Next, Refusal>,
    ) -> Result<(), Refusal> {
        let seq = self.next_seq();
        self.send(&message.finish(seq)?)?;
        self.receive(Reading::of(expected, seq, seq), &mut read)
    }

    /// Sends several messages at once, which the kernel applies as one transaction, and waits for
    /// the acknowledgement that one of them requests.
    pub(crate) fn transact(&self, messages: &[Message], acknowledged: usize) -> Result<(), Refusal> {
        let first = self.next_seq();
        let mut bytes = Vec::new();
        for (seq, message) in (first..).zip(messages) {
            bytes.extend(message.finish(seq)?);
            self.seq.set(seq);
        }
        if bytes.len() > SEND_BUFFER {
            // Twice: the kernel counts what its own structures take.
            setsockopt(&self.socket, sockopt::SndBufForce, &(bytes.len() * 2))?;
        }
        self.send(&bytes)?;
        let last = first.wrapping_add(acknowledged as u32);
        self.receive(Reading::of(Expected::Acknowledgement, first, last), &mut |_| Ok(Next::Continue))
    }

    /// Sends a request for a list and returns what `read` makes of each entry. A list that changes
    /// while the kernel sends it may lack any entry: it is requested again.
    pub(crate) fn list<T>(
        &self,
        message: &Message,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        tried(Errno::EINTR, || {
            let mut found = Vec::new();
            self.request(Expected::List, message, |answer| {
                found.extend(read(answer));
                if found.len() > LIST_MAX {
                    let message = format!("the list has more than {LIST_MAX} entries");
                    return Err(Refusal::new(Errno::E2BIG, message));
                }
                Ok(Next::Continue)
            })?;
            Ok(found)
        })
    }

    /// Sends a request for one object, which the kernel sends without an acknowledgement.
    pub(crate) fn get<T>(
        &self,
        message: &Message,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<T, Refusal> {
        tried(Errno::EMSGSIZE, || {
            let mut found = None;
            self.request(Expected::Object, message, |answer| {
                found = read(answer);
                Ok(Next::Stop)
            })?;
            found.ok_or(Refusal::from(Malformed))
        })
    }

    fn next_seq(&self) -> u32 {
        self.seq.set(self.seq.get().wrapping_add(1));
        self.seq.get()
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Refusal> {
        self.socket.send(bytes, 0)?;
        Ok(())
    }

    fn receive(
        &self,
        mut reading: Reading,
        read: &mut dyn FnMut(&Answer<'_>) -> Result<Next, Refusal>,
    ) -> Result<(), Refusal> {
        let mut buffer = BUFFER.take();
        buffer.clear();
        buffer.reserve(RECEIVE_BUFFER);
        let received = self.receive_by(&mut buffer, &mut reading, read);
        BUFFER.set(buffer);
        received
    }

    fn receive_by(
        &self,
        buffer: &mut Vec<u8>,
        reading: &mut Reading,
        read: &mut dyn FnMut(&Answer<'_>) -> Result<Next, Refusal>,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        loop {
            buffer.clear();
            // With MSG_TRUNC the length of the datagram is returned, also where it did not fit.
            let length = uninterrupted(|| self.socket.recv(buffer, libc::MSG_TRUNC))
                .map_err(|refusal| Refusal { unanswered: true, ..refusal })?;
            if length <= buffer.len() {
                if let Some(end) = reading.take(buffer, read) {
                    return end;
                }
            } else {
                buffer.reserve(length);
                reading.cut(length)?;
            }
            if started.elapsed() > EXCHANGE_LIMIT {
                let refusal = Refusal::new(Errno::ETIMEDOUT, "the answer does not end");
                return Err(Refusal { unanswered: true, ..refusal });
            }
        }
    }
}

/// Repeats a request that changes nothing, where it fails by an error that the next try may not have.
fn tried<T>(passing: Errno, mut request: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let mut tries = 1;
    loop {
        match request() {
            Err(refusal) if refusal.errno == passing && tries < TRIES => tries += 1,
            answered => return answered,
        }
    }
}

/// Receives until there is an answer. An error of the socket takes no message out of its queue
/// (`sock_error` in include/net/sock.h tells it once): the answer may follow.
fn uninterrupted(mut receive: impl FnMut() -> std::io::Result<usize>) -> Result<usize, Refusal> {
    let mut failed = 0;
    loop {
        match receive() {
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                return Err(Refusal::new(Errno::ETIMEDOUT, "the kernel does not answer"));
            }
            Err(_) if failed < RECEIVE_TRIES => failed += 1,
            received => return Ok(received?),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the answer to a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// One object.
    Object,
    /// Objects, and a message that ends them.
    List,
    /// An acknowledgement, and the object that was changed where the request has NLM_F_ECHO.
    Acknowledgement,
}

/// The answer to one request or transaction, as far as it was read.
struct Reading {
    /// The sequence numbers of its messages.
    first: u32,
    last: u32,
    expected: Expected,
    /// The list changed between two parts of it, or a part did not fit into the buffer.
    interrupted: bool,
    /// Why an earlier message of the transaction was refused.
    failed: Option<Refusal>,
}

impl Reading {
    fn of(expected: Expected, first: u32, last: u32) -> Reading {
        Reading { expected, first, last, interrupted: false, failed: None }
    }

    /// Notes that a datagram did not fit into the buffer. A list is read to its end before it is requested again,
    /// since the kernel sends one at a time. An acknowledgement always fits.
    fn cut(&mut self, length: usize) -> Result<(), Refusal> {
        match self.expected {
            Expected::Object => {
                return Err(Refusal::new(Errno::EMSGSIZE, format!("the answer has {length} bytes")));
            }
            Expected::List => self.interrupted = true,
            Expected::Acknowledgement => {}
        }
        Ok(())
    }

    /// Takes in one datagram; how the answer ended, where it did. A list that changed while it
    /// was sent ends with `EINTR`.
    fn take(
        &mut self,
        bytes: &[u8],
        read: &mut dyn FnMut(&Answer<'_>) -> Result<Next, Refusal>,
    ) -> Option<Result<(), Refusal>> {
        for answer in answers(bytes) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(malformed) => return Some(Err(malformed.into())),
            };
            if !(self.first..=self.last).contains(&answer.seq) {
                continue;
            }
            self.interrupted |= i32::from(answer.flags) & libc::NLM_F_DUMP_INTR != 0;
            if matches!(i32::from(answer.kind), libc::NLMSG_ERROR | libc::NLMSG_DONE) {
                if let Some(end) = self.acknowledged(&answer) {
                    return Some(end);
                }
                continue;
            }
            match read(&answer) {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return Some(Ok(())),
                Err(refusal) => return Some(Err(refusal)),
            }
        }
        None
    }

    fn acknowledged(&mut self, answer: &Answer<'_>) -> Option<Result<(), Refusal>> {
        let (errno, kernel_message) = match acknowledgement(answer) {
            Ok(acknowledged) => acknowledged,
            Err(malformed) => return Some(Err(malformed.into())),
        };
        if errno != 0 && self.failed.is_none() {
            self.failed = Some(Refusal::new(Errno::from_raw(errno), kernel_message));
        }
        // An error for the first message of a transaction is one for the whole of it.
        let refused_whole = answer.seq == self.first && errno != 0;
        if answer.seq != self.last && !refused_whole {
            return None;
        }
        Some(match self.failed.take() {
            Some(refusal) => Err(refusal),
            None if self.interrupted => Err(Refusal::new(Errno::EINTR, "the list changes all the time")),
            None => Ok(()),
        })
    }
}

/// A connection whose kernel is the test, at the other end of a socket pair.
#[cfg(test)]
pub(crate) fn to_test(limit: Duration) -> (Connection, std::os::unix::net::UnixDatagram) {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let (ours, kernel) = std::os::unix::net::UnixDatagram::pair().expect("a socket pair");
    // SAFETY: the descriptor is open, and only the socket closes it.
    #[allow(unsafe_code)]
    let socket = unsafe { Socket::from_raw_fd(ours.into_raw_fd()) };
    (Connection::with_limit(socket, limit).expect("a time limit"), kernel)
}

#[cfg(test)]
mod tests {
    use super::super::message::u32_at;
    use super::*;

    const KIND: u16 = 16;
    const DONE: u16 = libc::NLMSG_DONE as u16;
    const INTERRUPTED: i32 = libc::NLM_F_DUMP_INTR;

    /// A datagram as the kernel sends it: messages of a type, flags and a number.
    fn datagram(seq: u32, messages: &[(u16, i32, u32)]) -> Vec<u8> {
        let message = |&(kind, flags, number): &(u16, i32, u32)| {
            Message::new(kind, flags, &number.to_ne_bytes()).finish(seq).unwrap()
        };
        messages.iter().flat_map(message).collect()
    }

    /// Requests a list whose answers are those given, each to the next request.
    fn list(answers: &[Vec<Vec<u8>>]) -> (Result<Vec<u32>, Refusal>, usize) {
        let (connection, kernel) = to_test(Duration::from_millis(200));
        answers.iter().flatten().for_each(|part| assert_eq!(kernel.send(part).unwrap(), part.len()));
        let listed = connection.list(&Message::new(KIND, 0, &[]), |answer| u32_at(answer.body, 0));
        (listed, connection.seq.get() as usize)
    }

    #[test]
    fn a_list_that_changed_while_it_was_sent_is_requested_again() {
        let whole = |seq| {
            vec![datagram(seq, &[(KIND, 0, 1), (KIND, 0, 2)]), datagram(seq, &[(KIND, 0, 3), (DONE, 0, 0)])]
        };
        assert_eq!(list(&[whole(1)]), (Ok(vec![1, 2, 3]), 1));

        let in_the_middle =
            vec![datagram(1, &[(KIND, 0, 1), (KIND, INTERRUPTED, 3)]), datagram(1, &[(DONE, 0, 0)])];
        let at_the_end = |seq| vec![datagram(seq, &[(KIND, 0, 1), (DONE, INTERRUPTED, 0)])];
        assert_eq!(list(&[in_the_middle, at_the_end(2), whole(3)]), (Ok(vec![1, 2, 3]), 3));

        let always: Vec<_> = (1..9).map(at_the_end).collect();
        let (listed, requests) = list(&always);
        assert_eq!((listed.unwrap_err().errno, requests), (Errno::EINTR, 5));
    }

    #[test]
    fn answers_to_another_request_are_ignored() {
        let late = datagram(9, &[(KIND, INTERRUPTED, 9), (DONE, 0, 0)]);
        assert_eq!(list(&[vec![late, datagram(1, &[(KIND, 0, 1), (DONE, 0, 0)])]]), (Ok(vec![1]), 1));
    }

    #[test]
    fn an_answer_that_is_missing_or_cut_is_an_error_within_the_limit() {
        assert_eq!(list(&[]).0.unwrap_err().errno, Errno::ETIMEDOUT);
        let unfinished = vec![datagram(1, &[(KIND, 0, 1)])];
        assert_eq!(list(&[unfinished]).0.unwrap_err().errno, Errno::ETIMEDOUT);
        let mut cut = datagram(1, &[(KIND, 0, 1), (DONE, 0, 0)]);
        cut.truncate(cut.len() - 4);
        assert_eq!(list(&[vec![cut]]).0.unwrap_err().errno, Errno::EBADMSG);
    }

    #[test]
    fn an_answer_may_be_longer_than_the_buffer() {
        let mut long = Message::new(KIND, 0, &7u32.to_ne_bytes());
        (0..12).for_each(|kind| {
            long.attr(kind, &[0; 3000]);
        });
        let answer = |seq| {
            let bytes = long.finish(seq).unwrap();
            assert!(bytes.len() > RECEIVE_BUFFER);
            vec![bytes, datagram(seq, &[(KIND, 0, 8), (DONE, 0, 0)])]
        };
        assert_eq!(list(&[answer(1), answer(2)]), (Ok(vec![7, 8]), 2));

        let (connection, kernel) = to_test(Duration::from_millis(200));
        for seq in [1, 2] {
            kernel.send(&answer(seq)[0]).unwrap();
        }
        let get = || connection.get(&Message::new(KIND, 0, &[]), |answer| u32_at(answer.body, 0));
        assert_eq!(get(), Ok(7));
    }

    #[test]
    fn a_list_has_a_limit_of_entries() {
        let part = |numbers: std::ops::Range<u32>| {
            let messages: Vec<_> = numbers.map(|number| (KIND, 0, number)).collect();
            datagram(1, &messages)
        };
        let (connection, kernel) = to_test(Duration::from_secs(5));
        std::thread::scope(|scope| {
            let endless = scope
                .spawn(move || (0..).step_by(1000).find(|at| kernel.send(&part(*at..at + 1000)).is_err()));
            let listed = connection.list(&Message::new(KIND, 0, &[]), |answer| u32_at(answer.body, 0));
            assert_eq!(listed.unwrap_err().errno, Errno::E2BIG);
            drop(connection);
            endless.join().unwrap();
        });
    }

    #[test]
    fn a_transaction_ends_with_its_last_request_or_an_error_for_its_first() {
        let error = |seq: u32, errno: i32| {
            let mut body = (-errno).to_ne_bytes().to_vec();
            body.extend([0; 16]);
            Message::new(libc::NLMSG_ERROR as u16, 0, &body).finish(seq).unwrap()
        };
        let transact = |answers: &[Vec<u8>]| {
            let (connection, kernel) = to_test(Duration::from_millis(200));
            answers.iter().for_each(|answer| assert_eq!(kernel.send(answer).unwrap(), answer.len()));
            connection.transact(&vec![Message::new(KIND, 0, &[]); 4], 2).map_err(|refusal| refusal.errno)
        };
        assert_eq!(transact(&[error(3, 0)]), Ok(()));
        assert_eq!(transact(&[error(2, libc::ENOENT), error(3, 0)]), Err(Errno::ENOENT));
        assert_eq!(transact(&[error(1, libc::EOPNOTSUPP)]), Err(Errno::EOPNOTSUPP));
        assert_eq!(transact(&[error(2, libc::ENOENT)]), Err(Errno::ETIMEDOUT));
    }
}

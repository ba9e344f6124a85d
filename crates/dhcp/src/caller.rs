//! The plugin's side of the socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni_core::delegate;
use cni_core::spec::{Code, Error, Result};

use crate::protocol::{self, Answer, Call, Command, Report, VERSION};
use crate::sockets;

/// How long a daemon that is alive takes to react.
const REACTION: Duration = Duration::from_secs(10);

/// How long a call takes at most, whatever the daemon reports: no runtime waits longer. The socket's path may
/// be a tenant's choice, and the program behind it the tenant's own.
const LONGEST: Duration = Duration::from_secs(300);

/// The most that the daemon may report until its answer, in messages and in bytes of one text.
const MAX_REPORTS: usize = 32;
const MAX_TEXT: usize = 1024;

/// The most leases that it may report.
const MAX_LEASES: usize = 1 << 16;

/// A connection to the daemon.
pub(crate) struct Caller {
    stream: Timed,
    path: PathBuf,
    limits: Limits,
}

/// How long the daemon may take to react, and the whole call.
#[derive(Clone, Copy)]
struct Limits {
    reaction: Duration,
    longest: Duration,
}

impl Limits {
    fn of_this_call() -> Limits {
        let longest = delegate::remaining().map_or(LONGEST, |remaining| remaining.min(LONGEST));
        Limits { reaction: REACTION.min(longest), longest }
    }
}

/// A stream whose reads and writes end at a time, however slowly the other side goes on.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    fn remaining(&self) -> io::Result<Option<Duration>> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(remaining)) }
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.remaining()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.remaining()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Caller {
    /// Connects to the daemon: at the configured socket, else at the first of the usual ones
    /// where one answers.
    ///
    /// # Errors
    /// [`Code::TRY_AGAIN`] where no daemon is running, with how to start it.
    pub(crate) fn connect(configured: Option<&Path>) -> Result<Caller> {
        Caller::connect_within(configured, Limits::of_this_call())
    }

    fn connect_within(configured: Option<&Path>, limits: Limits) -> Result<Caller> {
        let candidates = sockets::candidates(configured);
        let mut problems = Vec::new();
        for path in &candidates {
            let deadline = Instant::now() + limits.longest;
            match sockets::connect(path, limits.reaction) {
                Ok(stream) => {
                    return Ok(Caller { stream: Timed { stream, deadline }, path: path.clone(), limits });
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(silent(path)),
                Err(err) => problems.push(format!("{}: {err}", path.display())),
            }
        }
        let start = match configured {
            Some(path) => format!("start it with: dhcp daemon -socketpath {}", path.display()),
            None => "start it with: dhcp daemon".to_owned(),
        };
        let paths: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        let msg = format!("no DHCP daemon is running at {}", paths.join(" or "));
        Err(Error::new(Code::TRY_AGAIN, msg).details(start).details(problems.join("; ")))
    }

    /// Sends a command and waits for its answer. `waiting` gets what the daemon reports until then.
    ///
    /// # Errors
    /// That of the daemon; [`Code::TRY_AGAIN`] where it does not answer in time,
    /// [`Code::IO`] where it is not a daemon of this project.
    pub(crate) fn call(mut self, command: Command, waiting: impl FnMut(&str)) -> Result<Answer> {
        let end = self.stream.deadline;
        self.send(command, end)?;
        self.answer(end, waiting)
    }

    /// All leases that the daemon holds.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub(crate) fn leases(mut self) -> Result<Vec<Report>> {
        let end = self.stream.deadline;
        self.send(Command::Leases, end)?;
        let mut leases = Vec::new();
        while leases.len() < MAX_LEASES {
            match self.answer(end, |_| ())? {
                Answer::Lease(report) => leases.push(*report),
                Answer::Done => return Ok(leases),
                other => return Err(crate::unexpected(&other)),
            }
        }
        Err(Error::new(Code::IO, format!("the daemon reports more than {MAX_LEASES} leases")))
    }

    fn send(&mut self, command: Command, end: Instant) -> Result<()> {
        self.stream.deadline = within(self.limits.reaction, end);
        let call = Call { version: VERSION, command };
        protocol::send(&mut self.stream, &call).map_err(|err| self.failed(err))
    }

    /// The next answer that is not [`Answer::Waiting`].
    fn answer(&mut self, end: Instant, mut waiting: impl FnMut(&str)) -> Result<Answer> {
        let reaction = self.limits.reaction;
        for _ in 0..MAX_REPORTS {
            match self.receive()? {
                Answer::Waiting { milliseconds, text } => {
                    let limit = Duration::from_millis(milliseconds).saturating_add(reaction);
                    self.stream.deadline = within(limit, end);
                    if let Some(text) = text {
                        waiting(&text[..text.floor_char_boundary(MAX_TEXT)]);
                    }
                }
                Answer::Failed { code, msg, details } => {
                    return Err(Error::new(Code(code), msg).details(details));
                }
                answer => return Ok(answer),
            }
        }
        Err(self.failed(io::ErrorKind::TimedOut.into()))
    }

    fn receive(&mut self) -> Result<Answer> {
        let receive = |stream: &mut Timed| {
            let prefix = protocol::receive_prefix(stream)?;
            if prefix == protocol::GO_DAEMON {
                return Ok(None);
            }
            protocol::receive_text(stream, protocol::length(prefix)?).map(Some)
        };
        let Some(text) = receive(&mut self.stream).map_err(|err| self.failed(err))? else {
            let msg = format!("the daemon at {} is that of the Go dhcp plugin", self.path.display());
            return Err(Error::new(Code::IO, msg).details(
                "plugin and daemon must be of the same project: start this one's daemon with: dhcp daemon",
            ));
        };
        serde_json::from_slice(&text).map_err(|err| {
            let msg = format!(
                "the daemon at {} answers in another way than this plugin expects",
                self.path.display()
            );
            Error::new(Code::IO, msg).details(format!("restart the daemon after an upgrade; {err}"))
        })
    }

    fn failed(&self, err: io::Error) -> Error {
        let path = self.path.display();
        match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => silent(&self.path),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Error::new(Code::TRY_AGAIN, format!("the DHCP daemon at {path} ended the connection"))
                    .details("it was restarted, or it refuses this user")
            }
            _ => Error::io(format_args!("talking to the DHCP daemon at {path}"), err),
        }
    }
}

/// A time from now on, but not after the end.
fn within(limit: Duration, end: Instant) -> Instant {
    Instant::now().checked_add(limit).map_or(end, |at| at.min(end))
}

fn silent(path: &Path) -> Error {
    Error::new(Code::TRY_AGAIN, format!("the DHCP daemon at {} does not answer", path.display()))
        .details("it has the socket, and is stopped or busy")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const LIMITS: Limits = Limits { reaction: Duration::from_millis(200), longest: Duration::from_secs(1) };

    /// Far longer than the limits, and far shorter than a hang.
    const SOON: Duration = Duration::from_secs(60);

    /// The outcome of a call of a daemon that does this with each connection, and what it reported.
    fn call(daemon: fn(UnixStream) -> io::Result<()>) -> (Result<Answer>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dhcp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || daemon(listener.accept()?.0));
        let mut reported = Vec::new();
        let begun = Instant::now();
        let caller = Caller::connect_within(Some(&path), LIMITS).unwrap();
        let answer = caller.call(Command::Status, |text| reported.push(text.to_owned()));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        // The caller has closed the connection.
        let _ = daemon.join().unwrap();
        (answer, reported)
    }

    fn waiting(milliseconds: u64, text: &str) -> Answer {
        Answer::Waiting { milliseconds, text: Some(text.to_owned()) }
    }

    #[test]
    fn a_daemon_that_announces_an_endless_wait_is_not_waited_for() {
        let (answer, reported) = call(|mut stream| {
            protocol::send(&mut stream, &waiting(u64::MAX, "forever"))?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        });
        assert_eq!(answer.unwrap_err().code(), Code::TRY_AGAIN);
        assert_eq!(reported, ["forever"]);
    }

    #[test]
    fn a_daemon_that_reports_without_end_is_cut_short() {
        let (answer, reported) = call(|mut stream| {
            let text = "ä".repeat(MAX_TEXT);
            loop {
                protocol::send(&mut stream, &waiting(1000, &text))?;
            }
        });
        assert_eq!(answer.unwrap_err().code(), Code::TRY_AGAIN);
        assert!(reported.len() <= MAX_REPORTS, "{} reports", reported.len());
        assert!(reported.iter().all(|text| text.len() <= MAX_TEXT));
    }

    #[test]
    fn an_answer_that_comes_byte_by_byte_is_not_waited_for() {
        let (answer, _) = call(|mut stream| {
            stream.write_all(&(protocol::MAX_MESSAGE as u32).to_be_bytes())?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(answer.unwrap_err().code(), Code::TRY_AGAIN);
    }
}

//! The plugin's side of the socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_core::spec::{Code, Error, Result};

use crate::protocol::{self, Answer, Call, Command, VERSION};
use crate::sockets;

/// How long a daemon that is alive takes to react.
const REACTION: Duration = Duration::from_secs(10);

/// A connection to the daemon.
pub(crate) struct Caller {
    stream: UnixStream,
    path: PathBuf,
}

impl Caller {
    /// Connects to the daemon: at the configured socket, else at the first of the usual ones
    /// where one answers.
    ///
    /// # Errors
    /// [`Code::TRY_AGAIN`] where no daemon is running, with how to start it.
    pub(crate) fn connect(configured: Option<&Path>) -> Result<Caller> {
        let candidates = sockets::candidates(configured);
        let mut problems = Vec::new();
        for path in &candidates {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Caller { stream, path: path.clone() }),
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
    pub(crate) fn call(mut self, command: Command, mut waiting: impl FnMut(&str)) -> Result<Answer> {
        let call = Call { version: VERSION, command };
        let sent = self.stream.set_write_timeout(Some(REACTION));
        sent.and_then(|()| protocol::send(&mut self.stream, &call)).map_err(|err| self.failed(err))?;
        let mut limit = REACTION;
        loop {
            match self.receive(limit)? {
                Answer::Waiting { milliseconds, text } => {
                    limit = Duration::from_millis(milliseconds) + REACTION;
                    if let Some(text) = text {
                        waiting(&text);
                    }
                }
                Answer::Failed { code, msg, details } => {
                    return Err(Error::new(Code(code), msg).details(details));
                }
                answer => return Ok(answer),
            }
        }
    }

    fn receive(&mut self, limit: Duration) -> Result<Answer> {
        let receive = |stream: &mut UnixStream| {
            stream.set_read_timeout(Some(limit))?;
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
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Error::new(Code::TRY_AGAIN, format!("the DHCP daemon at {path} does not answer"))
                    .details("it accepts connections and is stopped or busy")
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Error::new(Code::TRY_AGAIN, format!("the DHCP daemon at {path} ended the connection"))
                    .details("it was restarted, or it refuses this user")
            }
            _ => Error::io(format_args!("talking to the DHCP daemon at {path}"), err),
        }
    }
}

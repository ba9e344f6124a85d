//! Executing a plugin: its input, its output, its standard error and its end, in time.

use std::fs;
use std::io::{ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::depth;
use crate::diagnostics::note;
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Error, Result};

/// The longest answer that is read from a plugin, in bytes.
const MAX_OUTPUT: usize = 16 << 20;

/// The most of a plugin's standard error that is passed on, in bytes, with its name on each line.
const MAX_ERRORS: usize = 128 << 10;

/// The longest line of standard error that is kept together, in bytes.
const MAX_LINE: usize = 8 << 10;

/// The most that is read of one stream before the others and the time are looked at, in bytes. A pipe
/// of root can hold 1 MiB.
const MAX_ROUND: usize = 1 << 20;

/// How long a killed process may take to end. One that waits for a dead network file system does not.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Executes the file with the request as its environment and standard input.
pub(super) fn execute(file: &Path, request: &Request) -> Result<Option<AddResult>> {
    let limit = super::time_limit(request);
    let mut child = process(file, request).spawn().map_err(|err| {
        let executable = fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
        failed("executing", file, err).details(if executable { "" } else { "the file is not executable" })
    })?;
    let (output, status) = converse(&mut child, file, request, limit)?;
    if !status.success() {
        return Err(Error::from_json(&output).unwrap_or_else(|| {
            Error::new(
                Code::DELEGATE,
                format!("plugin {} failed without an error object: {status}", file.display()),
            )
            .details(format!("it printed {:?}", String::from_utf8_lossy(&output[..output.len().min(200)])))
        }));
    }
    if request.env.command != Command::Add {
        return Ok(None);
    }
    let result = AddResult::from_json(&output, request.conf.cni_version);
    result.map(Some).map_err(|err| {
        err.context(format!("plugin {} printed no result", file.display())).with_code(Code::DELEGATE)
    })
}

fn failed(what: &str, file: &Path, err: impl Into<std::io::Error>) -> Error {
    Error::io(format!("{what} plugin {}", file.display()), err).with_code(Code::DELEGATE)
}

/// The process of a plugin. Only the variables of the specification and the depth of delegation differ
/// from our own environment, so that TRACEPARENT and others reach it.
fn process(file: &Path, request: &Request) -> Process {
    let env = &request.env;
    let mut process = Process::new(file);
    let stderr = if request.exec.name_stderr { Stdio::piped() } else { Stdio::inherit() };
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    // A group of its own, so that the processes that it started are killed with it.
    process.process_group(0);
    let depth = (depth::VARIABLE, Some(depth::of_delegate().to_string().into()));
    for (name, value) in env.variables().into_iter().chain([depth]) {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    process
}

/// Writes the request to the process, reads its output and waits for its end.
fn converse(
    child: &mut Child,
    file: &Path,
    request: &Request,
    limit: Duration,
) -> Result<(Vec<u8>, ExitStatus)> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let (ended, end) = std::io::pipe().map_err(|err| failed("awaiting", file, err))?;
    // The end of the process is not the end of its output: a process that it started may keep the pipes
    // open. WNOWAIT leaves it to be reaped below, so that its id can't belong to another process when
    // its group is killed. The thread may outlive this call, where the process can't be killed.
    let waiting = std::thread::Builder::new().spawn(move || {
        let _end = end;
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    });
    let mut talk = Talk::new(child, &request.text, file);
    let talked = waiting.and_then(|_| talk.run(&ended, Instant::now() + limit));
    let _ = killpg(pid, Signal::SIGKILL);
    let talked = talked.and_then(|()| talk.finish());
    if talked.is_err() && !wait_for(&ended, KILL_LIMIT) {
        let msg = format!("plugin {} did not end within {} s", file.display(), limit.as_secs_f32());
        return Err(Error::new(Code::DELEGATE, msg).details("it can't be killed: it waits in the kernel"));
    }
    let status = child.wait().map_err(|err| failed("waiting for", file, err));
    let output = talked.map_err(|err| match err.kind() {
        ErrorKind::TimedOut => {
            let msg = format!("plugin {} did not end within {} s", file.display(), limit.as_secs_f32());
            Error::new(Code::DELEGATE, msg).details("it was killed")
        }
        _ => failed("talking with", file, err),
    })?;
    Ok((output, status?))
}

/// Waits until the pipe's other end is closed; returns whether it is.
fn wait_for(ended: &PipeReader, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit.as_millis()).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

/// The three streams of a process while it runs.
struct Talk<'a> {
    stdin: Option<std::process::ChildStdin>,
    input: &'a [u8],
    stdout: Option<std::process::ChildStdout>,
    output: Vec<u8>,
    stderr: Option<std::process::ChildStderr>,
    line: Vec<u8>,
    /// How much of standard error was passed on, in bytes, and how much was not.
    passed_on: usize,
    dropped: usize,
    name: String,
}

impl<'a> Talk<'a> {
    fn new(child: &mut Child, input: &'a [u8], file: &Path) -> Talk<'a> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Talk {
            stdin: child.stdin.take(),
            input,
            stdout: child.stdout.take(),
            output: Vec::new(),
            stderr: child.stderr.take(),
            line: Vec::new(),
            passed_on: 0,
            dropped: 0,
            name,
        }
    }

    /// Writes and reads until the process has ended.
    fn run(&mut self, ended: &PipeReader, deadline: Instant) -> std::io::Result<()> {
        for fd in [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ] {
            fd.map_or(Ok(()), set_nonblocking)?;
        }
        while !self.wait(ended, deadline)? {
            self.write();
            self.read_output()?;
            self.read_errors();
        }
        Ok(())
    }

    /// Reads the rest after the end of the process, and returns its output.
    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.read_output()?;
        self.read_errors();
        self.flush_line();
        if self.dropped > 0 {
            let Talk { name, dropped, .. } = &self;
            note(format_args!("{name}: {dropped} more bytes of standard error are not shown"));
        }
        Ok(self.output)
    }

    /// Waits until a stream is ready; returns whether the process has ended.
    fn wait(&self, ended: &PipeReader, deadline: Instant) -> std::io::Result<bool> {
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.stdin.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        fds.extend(self.stdout.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stderr.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        // Rounded up, so that the last millisecond is not spent in a busy loop.
        let timeout = PollTimeout::try_from(remaining.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
        Ok(fds[0].revents().is_some_and(|events| !events.is_empty()))
    }

    /// A plugin may succeed without reading its input.
    fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(self.input) {
            Ok(written) => self.input = &self.input[written..],
            Err(err) if is_later(&err) => return,
            Err(_) => self.input = &[],
        }
        if self.input.is_empty() {
            self.stdin = None;
        }
    }

    fn read_output(&mut self) -> std::io::Result<()> {
        let Some(stdout) = &mut self.stdout else { return Ok(()) };
        let mut part = [0; 8 << 10];
        for _ in 0..MAX_ROUND / part.len() {
            match stdout.read(&mut part) {
                Ok(0) => {
                    self.stdout = None;
                    return Ok(());
                }
                Ok(len) => self.output.extend_from_slice(&part[..len]),
                Err(err) if is_later(&err) => return Ok(()),
                Err(err) => return Err(err),
            }
            if self.output.len() > MAX_OUTPUT {
                return Err(std::io::Error::other(format!("it printed more than {} MiB", MAX_OUTPUT >> 20)));
            }
        }
        Ok(())
    }

    /// Passes standard error on, line by line. What exceeds the bound is read, so that the plugin does
    /// not wait for its reader, and dropped.
    fn read_errors(&mut self) {
        let Some(mut stderr) = self.stderr.take() else { return };
        let mut part = [0; 4 << 10];
        for _ in 0..MAX_ROUND / part.len() {
            match stderr.read(&mut part) {
                Ok(0) => return,
                Ok(len) => self.errors(&part[..len]),
                Err(err) if is_later(&err) => break,
                Err(_) => return,
            }
        }
        self.stderr = Some(stderr);
    }

    fn errors(&mut self, part: &[u8]) {
        let (part, dropped) = part.split_at(part.len().min(MAX_ERRORS.saturating_sub(self.passed_on)));
        self.passed_on += part.len();
        self.dropped += dropped.len();
        for byte in part {
            if *byte == b'\n' {
                self.flush_line();
            } else {
                self.line.push(*byte);
            }
            if self.line.len() >= MAX_LINE {
                self.flush_line();
            }
        }
    }

    fn flush_line(&mut self) {
        if !self.line.is_empty() {
            note(format_args!("{}: {}", self.name, String::from_utf8_lossy(&self.line)));
            self.passed_on += self.name.len() + 2;
            self.line.clear();
        }
    }
}

fn is_later(err: &std::io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::{Environment, ExecOptions};
    use crate::spec::NetConf;

    /// Runs a shell script as a plugin, for ADD, and returns its outcome.
    fn run(script: &str, time_limit: Option<Duration>) -> Result<Option<AddResult>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let vars = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "e"),
            ("CNI_NETNS", "/n"),
            ("CNI_PATH", "/"),
        ];
        let get =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        // Longer than what a pipe holds.
        let text =
            format!(r#"{{"cniVersion":"1.0.0","name":"n","pad":"{}"}}"#, "x".repeat(200_000)).into_bytes();
        let request = Request {
            env: Environment::read(get).unwrap(),
            conf: NetConf::parse(&text).unwrap(),
            text,
            plugins: &[],
            exec: ExecOptions { time_limit, name_stderr: true },
        };
        execute(&file, &request)
    }

    const ANSWER: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8"}]}'"#;

    #[test]
    fn a_plugin_may_answer_before_it_reads_and_read_nothing() {
        assert_eq!(run(ANSWER, None).unwrap().unwrap().ips.len(), 1);
        assert_eq!(run(&format!("{ANSWER}; cat >/dev/null"), None).unwrap().unwrap().ips.len(), 1);
        assert_eq!(
            run(&format!("test $(wc -c) -gt 200000 && {ANSWER}"), None).unwrap().unwrap().ips.len(),
            1
        );
    }

    #[test]
    fn a_process_that_it_leaves_running_is_not_waited_for() {
        let started = Instant::now();
        let result = run(&format!("sleep 30 & {ANSWER}"), Some(Duration::from_secs(20)));
        assert_eq!(result.unwrap().unwrap().ips.len(), 1);
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_plugin_that_hangs_is_killed_with_what_it_started() {
        let started = Instant::now();
        let error = run("sh -c 'sleep 30'; :", Some(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.code(), Code::DELEGATE);
        assert!(error.msg().contains("did not end within 0.05 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn endless_standard_error_and_output_end_at_the_time_limit_or_a_bound() {
        let started = Instant::now();
        let error = run("yes >&2", Some(Duration::from_millis(500))).unwrap_err();
        assert!(error.msg().contains("did not end within 0.5 s"), "{error}");
        let error = run("yes", Some(Duration::from_secs(20))).unwrap_err();
        assert!(error.to_string().contains("more than 16 MiB"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn children_that_go_on_after_their_plugin_are_killed_with_it() {
        let started = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        // The second one notices nothing of its closed pipes.
        let children = "yes >&2 & echo $!; sleep 60 >/dev/null 2>&1 & echo $!";
        let script = format!("{{ {children}; }} > {0}; {ANSWER}", pids.display());
        assert_eq!(run(&script, Some(Duration::from_secs(20))).unwrap().unwrap().ips.len(), 1);
        assert!(started.elapsed() < Duration::from_secs(15));
        let pids = fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        // Their processes are gone, or zombies until init reaps them.
        let is_over = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !pids.lines().all(is_over) {
            assert!(started.elapsed() < Duration::from_secs(15), "it still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn garbage_and_a_crash_have_different_errors() {
        assert!(run("echo what", None).unwrap_err().msg().contains("printed no result"));
        let error = run("kill -9 $$", None).unwrap_err();
        assert!(error.msg().contains("signal: 9"), "{error}");
        let error = run(r#"echo '{"code":11,"msg":"later"}'; exit 1"#, None).unwrap_err();
        assert_eq!((error.code(), error.msg()), (Code::TRY_AGAIN, "later"));
    }
}

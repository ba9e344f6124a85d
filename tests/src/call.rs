use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::Host;
use crate::budget::time_limit;

/// One call of a plugin: its environment and its standard input.
///
/// Everything can be left out or be wrong: that is what tests of bad input are about.
#[derive(Clone, Debug)]
pub struct Call<'h> {
    host: &'h Host,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
}

impl<'h> Call<'h> {
    /// A call of the host's plugin `name` with `CNI_PATH` set to its folder and nothing else.
    pub fn new(host: &'h Host, name: &str) -> Self {
        let dir = host.plugins().dir();
        let path = dir.display().to_string();
        Self {
            host,
            program: dir.join(name),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: Vec::new(),
        }
        .env("CNI_PATH", &path)
    }

    /// Runs another program in place of the installed plugin.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Adds an argument of the command line.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable away.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(key, _)| key != name);
        self
    }

    /// Puts a folder before those of `CNI_PATH`.
    pub fn path_before(mut self, folder: &str) -> Self {
        for (key, value) in &mut self.environment {
            if key == "CNI_PATH" {
                *value = format!("{folder}:{value}");
            }
        }
        self
    }

    /// Sets what the plugin reads.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the configuration that the plugin reads.
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Starts the plugin on the host, its standard input written and closed.
    pub fn start(&self) -> Child {
        let mut child = self.host.enter(|| {
            Command::new(&self.program)
                .args(&self.arguments)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .envs(self.environment.iter().map(|(key, value)| (key, value)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|err| {
                    panic!("can't run {}: {err} (is it built? `cargo xtask dist`)", self.program.display())
                })
        });
        let mut stdin = child.stdin.take().expect("a pipe");
        // A plugin may end without reading; and one that reads nothing must not block the test.
        let bytes = self.stdin.clone();
        std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        child
    }

    /// Runs the plugin to its end.
    pub fn run(&self) -> Outcome {
        Outcome::of(self.start(), &self.describe())
    }

    /// The same call with at most so many KiB of memory of its own (`RLIMIT_DATA`).
    pub fn within_memory(self, kib: u32) -> Self {
        self.behind_a_shell(&format!("ulimit -d {kib}; exec \"$@\""))
    }

    /// The same call with a redirection of the shell, such as `2>/dev/full`.
    pub fn redirected(self, redirection: &str) -> Self {
        self.behind_a_shell(&format!("exec \"$@\" {redirection}"))
    }

    /// The same call whose process stops itself before the plugin starts in it.
    pub(crate) fn behind_a_stop(self) -> Self {
        self.behind_a_shell("kill -STOP $$; exec \"$@\"")
    }

    fn behind_a_shell(mut self, script: &str) -> Self {
        let plugin = self.program.display().to_string();
        let arguments = std::mem::take(&mut self.arguments);
        self.program = PathBuf::from("/bin/sh");
        self.arguments = ["-c", script, "sh", &plugin].map(str::to_owned).to_vec();
        self.arguments.extend(arguments);
        self
    }

    fn describe(&self) -> String {
        let variables: Vec<_> =
            self.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!(
            "{} {}\n{}",
            variables.join(" "),
            self.program.display(),
            String::from_utf8_lossy(&self.stdin)
        )
    }
}

/// What a call gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the process ended.
    pub status: ExitStatus,
    /// All that it printed for the caller.
    pub stdout: String,
    /// All that it printed for a person.
    pub stderr: String,
    call: String,
}

impl Outcome {
    /// Waits for a plugin that was started; `call` describes it in messages.
    pub fn of(mut child: Child, call: &str) -> Self {
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut stderr = child.stderr.take().expect("a pipe");
        let (done, ended) = mpsc::channel();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(stderr.read_to_end(&mut bytes));
            bytes
        });
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(stdout.read_to_end(&mut bytes));
            drop(done.send(bytes));
        });
        let Ok(printed) = ended.recv_timeout(time_limit()) else {
            drop(child.kill());
            panic!("hangs for {:?}: {call}", time_limit());
        };
        let status = child.wait().expect("waiting for a child");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            status,
            stdout: text(printed),
            stderr: text(stderr.join().unwrap_or_default()),
            call: call.to_owned(),
        }
    }

    /// True where the plugin ended with status 0.
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// Fails the test unless the call succeeded.
    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert!(self.ok(), "expected success:\n{self}");
        self
    }

    /// The result of a call that must have succeeded with one.
    #[track_caller]
    pub fn result(&self) -> Value {
        self.succeeds();
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("no JSON result ({err}):\n{self}"))
    }

    /// The error object of a call that must have failed with one.
    #[track_caller]
    pub fn error(&self) -> CniError {
        assert!(!self.ok(), "expected an error:\n{self}");
        assert!(self.status.signal().is_none(), "died of a signal:\n{self}");
        let object: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("no JSON error ({err}):\n{self}"));
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        CniError {
            code: object["code"].as_u64().unwrap_or_else(|| panic!("an error without a code:\n{self}")),
            msg: text("msg"),
            details: text("details"),
            cni_version: text("cniVersion"),
        }
    }

    /// The error object, which must have this code and name all of `quoted` in msg or details.
    #[track_caller]
    pub fn fails(&self, code: u64, quoted: &[&str]) -> CniError {
        let error = self.error();
        assert_eq!(error.code, code, "the wrong error code:\n{self}");
        assert!(!error.msg.is_empty(), "an error without a message:\n{self}");
        for needle in quoted {
            assert!(error.text().contains(needle), "the error does not name {needle:?}:\n{self}");
        }
        error
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}\n=> {}\nstdout: {}\nstderr: {}", self.call, self.status, self.stdout, self.stderr)
    }
}

/// The error object of the specification, section "Error".
#[derive(Clone, Debug)]
pub struct CniError {
    /// Its code: below 100 the specification's.
    pub code: u64,
    /// The short message.
    pub msg: String,
    /// The long description; empty when the error has none.
    pub details: String,
    /// The specification version it is in; empty where it says none.
    pub cni_version: String,
}

impl CniError {
    /// Message and details in one.
    pub fn text(&self) -> String {
        format!("{}; {}", self.msg, self.details)
    }
}

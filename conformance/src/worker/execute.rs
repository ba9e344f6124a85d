//! Executes a plugin and keeps all that can be seen of it.

use super::sandbox::sh;
use super::{CallRecord, HOME};
use crate::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Number of the next call: its files have names of their own.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Executes `program` and waits for its end, but no longer than `limit`.
///
/// Input and output are files and not pipes: a process that the plugin left behind may hold them open
/// as long as it wants.
pub(crate) fn execute(
    program: &Path,
    env: BTreeMap<String, String>,
    stdin: &str,
    limit: Duration,
) -> Result<CallRecord> {
    execute_command(Command::new(program), &program.display().to_string(), env, stdin, limit)
}

/// Executes a command line as [`execute`] does.
pub(crate) fn execute_line(line: &str, env: BTreeMap<String, String>, limit: Duration) -> Result<CallRecord> {
    execute_command(sh(line), &format!("sh -c {}", quote(line)), env, "", limit)
}

fn execute_command(
    mut command: Command,
    shown: &str,
    env: BTreeMap<String, String>,
    stdin: &str,
    limit: Duration,
) -> Result<CallRecord> {
    let base = format!("{HOME}/call-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let file = |kind: &str| format!("{base}.{kind}");
    fs::write(file("in"), stdin).map_err(|error| format!("can't keep a plugin's input: {error}"))?;
    let create = |kind| File::create(file(kind)).map_err(|error| format!("can't make a file: {error}"));
    let input = File::open(file("in")).map_err(|error| format!("can't open a plugin's input: {error}"))?;
    let start = Instant::now();
    let mut child = command
        .env_clear()
        .envs(&env)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(input)
        .stdout(create("out")?)
        .stderr(create("err")?)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("can't execute {shown}: {error}"))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, receiver) = mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(child.wait()));
    let mut hung_in = None;
    let status = match receiver.recv_timeout(limit) {
        Ok(status) => status,
        Err(_) => {
            hung_in = Some(whereabouts(pid));
            // Its group too: what it waits for may be a child of its own.
            let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
            receiver.recv().unwrap_or_else(|_| Ok(ExitStatus::from_raw(9)))
        }
    };
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = waiter.join();
    let status = status.map_err(|error| format!("can't wait for {shown}: {error}"))?;
    let read = |kind| fs::read(file(kind)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(CallRecord {
        program: shown.to_owned(),
        env,
        stdin: stdin.to_owned(),
        exit: status.code(),
        signal: status.signal(),
        hung_in,
        stdout: read("out").unwrap_or_default(),
        stderr: read("err").unwrap_or_default(),
        milliseconds,
    })
}

/// What a process waits in.
fn whereabouts(pid: Pid) -> String {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        text.trim().lines().take(8).collect::<Vec<_>>().join(" ")
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let parts = [("wchan", read("wchan")), ("system call", read("syscall")), ("stack", read("stack"))];
    let known = parts.iter().filter(|(_, text)| !text.is_empty() && text != "0");
    let text: Vec<String> = known.map(|(name, text)| format!("{name}: {text}")).collect();
    format!("{tasks} thread(s); {}", text.join("; "))
}

/// The line that repeats a call by hand, with the plugins' folder as it is outside.
#[must_use]
pub fn hand_line(call: &CallRecord, plugins: &Path) -> String {
    let inside = format!("{HOME}/plugins");
    let outside = plugins.display().to_string();
    let env: Vec<String> = call
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", quote(&value.replace(&inside, &outside))))
        .collect();
    let input =
        if call.stdin.is_empty() { String::new() } else { format!("printf %s {} | ", quote(&call.stdin)) };
    format!("{input}env {} {}", env.join(" "), call.program.replace(&inside, &outside))
}

/// Text as one word of a shell.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

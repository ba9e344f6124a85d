//! Runs one program once and notes which of its functions are called.
//!
//! `probe-calls STDIN STDOUT PROGRAM [ARGUMENT...]` has the arguments and output of `probe-measure`,
//! with zeros for figures. Beside STDIN it finds a file `functions`: the program that it is about, then
//! an address on each line, in hexadecimal. Those that are called are added to a file `called`
//! there. Each function has a breakpoint on its first byte until it is called for the first time,
//! see ptrace(2).

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

fn main() -> ExitCode {
    match run() {
        Ok(code) => {
            println!("0 0 0 0 {code}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("probe-calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<i32> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(stdin), Some(stdout), Some(program)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(io::Error::other("takes STDIN STDOUT PROGRAM [ARGUMENT...]"));
    };
    let folder = Path::new(&stdin).parent().unwrap_or(Path::new("."));
    let text = fs::read_to_string(folder.join("functions"))?;
    let mut lines = text.lines();
    let traced = lines.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(arguments).stdin(File::open(&stdin)?).stdout(File::create(stdout)?);
    if !is_same_file(&program, traced)? {
        return Ok(command.spawn()?.wait()?.code().unwrap_or(-1));
    }
    let addresses = lines.filter_map(|line| u64::from_str_radix(line, 16).ok()).collect();
    let mut trace = Trace::start(command, addresses)?;
    let code = trace.follow()?;
    let mut called = OpenOptions::new().create(true).append(true).open(folder.join("called"))?;
    for address in trace.called {
        writeln!(called, "{address:x}")?;
    }
    Ok(code)
}

fn is_same_file(program: &OsString, traced: &str) -> io::Result<bool> {
    let (one, other) = (fs::metadata(program)?, fs::metadata(traced)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

struct Trace {
    main: Pid,
    /// The bytes that the breakpoints replaced.
    bytes: BTreeMap<u64, u8>,
    called: BTreeSet<u64>,
}

impl Trace {
    /// Starts the program and stops it before its first instruction, to set the breakpoints.
    fn start(mut command: Command, addresses: Vec<u64>) -> io::Result<Self> {
        #[allow(unsafe_code, reason = "between fork and exec, this is one system call")]
        unsafe {
            command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
        }
        let child = command.spawn()?;
        let main = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        waitpid(main, None)?;
        let options = Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(main, options)?;
        let memory = memory_of(main)?;
        let mut bytes = BTreeMap::new();
        for address in addresses {
            let mut byte = [0];
            memory.read_exact_at(&mut byte, address)?;
            memory.write_all_at(&[BREAKPOINT], address)?;
            bytes.insert(address, byte[0]);
        }
        ptrace::cont(main, None)?;
        Ok(Self { main, bytes, called: BTreeSet::new() })
    }

    /// Until the program and all that it started have ended; returns the exit code.
    fn follow(&mut self) -> io::Result<i32> {
        let mut code = -1;
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Err(nix::errno::Errno::ECHILD) => return Ok(code),
                status => status?,
            };
            match status {
                WaitStatus::Exited(pid, status) if pid == self.main => code = status,
                WaitStatus::Stopped(pid, Signal::SIGTRAP) if self.is_breakpoint(pid)? => {
                    ptrace::cont(pid, None)?;
                }
                // Every new process or thread begins with it.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) => ptrace::cont(pid, None)?,
                WaitStatus::Stopped(pid, signal) => ptrace::cont(pid, signal)?,
                // Another program, whose functions are not traced.
                WaitStatus::PtraceEvent(pid, _, event)
                    if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 =>
                {
                    ptrace::detach(pid, None)?;
                }
                WaitStatus::PtraceEvent(pid, ..) => ptrace::cont(pid, None)?,
                _ => {}
            }
        }
    }

    /// Notes the call, removes the breakpoint and steps back to its address.
    fn is_breakpoint(&mut self, pid: Pid) -> io::Result<bool> {
        let mut registers = ptrace::getregs(pid)?;
        let address = registers.rip - 1;
        let Some(byte) = self.bytes.get(&address) else { return Ok(false) };
        memory_of(pid)?.write_all_at(&[*byte], address)?;
        registers.rip = address;
        ptrace::setregs(pid, registers)?;
        self.called.insert(address);
        Ok(true)
    }
}

fn memory_of(pid: Pid) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))
}

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Call;

/// Runs a call and kills it, and all that it started, at its `stop`th entry to or return from a
/// system call (counted from 1, over all its threads and children).
///
/// Gives the number of stops that it came to and how it ended: fewer than `stop` where it was
/// done before.
pub fn kill_at_syscall(call: &Call<'_>, stop: u64) -> (u64, ExitStatus) {
    let (trace, status) = traced(call, stop);
    (trace.stops, status)
}

/// How a call ended in which a system call failed.
#[derive(Debug)]
pub struct Failed {
    /// How many system calls were made.
    pub made: u64,
    /// The number of the one that failed, such as `SYS_openat`; `None` where so many were not made.
    pub syscall: Option<i64>,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output and standard error.
    pub output: String,
}

/// Runs a call in which the `number`th system call (counted from 1, over all its threads and children) is
/// not executed, and fails with `errno`.
#[cfg(target_arch = "x86_64")]
pub fn fail_syscall(call: &Call<'_>, number: u64, errno: Errno) -> Failed {
    failing(call, errno, &mut |entered, _| entered == number)
}

/// Runs a call as on a kernel that has no nf_tables, and no netfilter that one could ask for it.
#[cfg(target_arch = "x86_64")]
pub fn without_nf_tables(call: &Call<'_>) -> Failed {
    failing(call, Errno::EPROTONOSUPPORT, &mut |_, pid| opens_nf_tables(pid))
}

/// Runs a call in which the `number`th close(2) of a file that was written in a folder fails with `errno`
/// (counted from 1); `folder` is a part of its path.
#[cfg(target_arch = "x86_64")]
pub fn fail_close(call: &Call<'_>, folder: &str, number: u32, errno: Errno) -> Failed {
    let mut closed = 0;
    failing(call, errno, &mut |_, pid| {
        let is_close = closes_written_file(pid, folder);
        closed += u32::from(is_close);
        is_close && closed == number
    })
}

/// Runs a call that can send nothing to the kernel any more, from its `number`th message on (counted from 1):
/// neither what it does nor how it is undone.
#[cfg(target_arch = "x86_64")]
pub fn fail_messages(call: &Call<'_>, number: u32, errno: Errno) -> Failed {
    let mut sent = 0;
    failing(call, errno, &mut |_, pid| {
        let registers = ptrace::getregs(pid).expect("the registers of a stopped child");
        let sends = [libc::SYS_sendto, libc::SYS_sendmsg].contains(&registers.orig_rax.cast_signed());
        sent += u32::from(sends);
        sends && sent >= number
    })
}

/// Whether a process is about to close a file of a folder that it opened for writing.
#[cfg(target_arch = "x86_64")]
fn closes_written_file(pid: Pid, folder: &str) -> bool {
    let registers = ptrace::getregs(pid).expect("the registers of a stopped child");
    if registers.orig_rax != libc::SYS_close.cast_unsigned() {
        return false;
    }
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{}", registers.rdi)).unwrap_or_default();
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", registers.rdi)).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok()).unwrap_or_default();
    path.to_string_lossy().contains(folder) && flags & libc::O_ACCMODE == libc::O_WRONLY
}

/// Runs a call in which the system calls fail that are chosen by how many were made, and by the process
/// that is about to make one.
#[cfg(target_arch = "x86_64")]
fn failing(call: &Call<'_>, errno: Errno, is_chosen: &mut dyn FnMut(u64, Pid) -> bool) -> Failed {
    let (mut trace, mut child) = seized(call);
    let (mut entered, mut failing, mut failed) = (0, None, None);
    let ended = trace.run(&mut |_, pid| {
        let set = |change: &dyn Fn(&mut libc::user_regs_struct)| {
            let mut registers = ptrace::getregs(pid).expect("the registers of a stopped child");
            change(&mut registers);
            ptrace::setregs(pid, registers).expect("setting the registers of a stopped child");
        };
        let info = ptrace::syscall_info(pid).expect("the system call of a stopped child");
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            entered += 1;
            if is_chosen(entered, pid) {
                let syscall = ptrace::getregs(pid).expect("the registers of a stopped child").orig_rax;
                failed = Some(syscall.cast_signed());
                failing = Some(pid);
                // close(2) always closes.
                if failed != Some(libc::SYS_close) {
                    set(&|registers| registers.orig_rax = u64::MAX);
                }
            }
        } else if failing == Some(pid) {
            failing = None;
            set(&|registers| registers.rax = (errno as i64).wrapping_neg().cast_unsigned());
        }
        After::Continue
    });
    let Ended::Exited(status) = ended else { unreachable!() };
    let mut output = String::new();
    for stream in [child.stdout.take().map(io::read_to_string), child.stderr.take().map(io::read_to_string)] {
        output += &stream.expect("its output is a pipe").expect("its output is text");
    }
    // Was reaped above: this only tells `Child` so.
    drop(child.wait());
    Failed { made: entered, syscall: failed, status, output }
}

/// How many programs a call executes, itself counted; see execve(2).
pub fn programs_executed(call: &Call<'_>) -> usize {
    let (trace, status) = traced(call, u64::MAX);
    assert!(status.success(), "the call fails under a tracer: {status}");
    trace.programs
}

/// A call that was stopped before it opens its first socket to nf_tables.
pub struct Paused {
    trace: Trace,
    child: Child,
    stopped: Pid,
}

impl Paused {
    /// Runs a call up to there.
    pub fn before_nf_tables(call: &Call<'_>) -> Paused {
        let (mut trace, child) = seized(call);
        let stopped =
            trace.run(&mut |_, pid| if opens_nf_tables(pid) { After::Pause } else { After::Continue });
        let Ended::Paused(stopped) = stopped else { panic!("it needs no nf_tables") };
        Paused { trace, child, stopped }
    }

    /// Lets it go on to its end.
    pub fn finish(mut self) -> ExitStatus {
        ptrace::syscall(self.stopped, None).expect("continuing the child");
        let Ended::Exited(status) = self.trace.run(&mut |_, _| After::Continue) else { unreachable!() };
        drop(self.child.wait());
        status
    }
}

/// Whether a process is about to call socket(AF_NETLINK, …, NETLINK_NETFILTER).
fn opens_nf_tables(pid: Pid) -> bool {
    let info = ptrace::syscall_info(pid).expect("the system call of a stopped child");
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: this member is valid at the entry to a system call.
    #[allow(unsafe_code)]
    let entry = unsafe { info.u.entry };
    entry.nr == libc::SYS_socket as u64
        && entry.args[0] == libc::AF_NETLINK as u64
        && entry.args[2] == libc::NETLINK_NETFILTER as u64
}

fn traced(call: &Call<'_>, stop: u64) -> (Trace, ExitStatus) {
    let (mut trace, mut child) = seized(call);
    let ended = trace.run(&mut |stops, _| if stops == stop { After::Kill } else { After::Continue });
    let Ended::Exited(status) = ended else { unreachable!() };
    // Was reaped above: this only tells `Child` so.
    drop(child.wait());
    (trace, status)
}

fn seized(call: &Call<'_>) -> (Trace, Child) {
    // The plugin waits for its tracer before its first own instruction.
    let waiting = call.clone().behind_a_stop();
    let child = waiting.start();
    let main = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    waitpid(main, Some(WaitPidFlag::WUNTRACED)).expect("the child stops by itself");
    ptrace::seize(main, options).expect("tracing the child");
    kill(main, Signal::SIGCONT).expect("continuing the child");
    (Trace { main, alive: BTreeSet::from([main]), stops: 0, programs: 0 }, child)
}

/// What to do after a stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Continue,
    Kill,
    Pause,
}

/// Why a trace returns.
enum Ended {
    Exited(ExitStatus),
    /// A process or thread waits before a system call.
    Paused(Pid),
}

struct Trace {
    main: Pid,
    alive: BTreeSet<Pid>,
    stops: u64,
    /// Programs executed: stops count from the first one, the plugin, on, and not in the shell before it.
    programs: usize,
}

impl Trace {
    fn run(&mut self, decide: &mut dyn FnMut(u64, Pid) -> After) -> Ended {
        let mut main_status = None;
        while !self.alive.is_empty() {
            let (pid, event) = self.next();
            let mut pass_on = None;
            match event {
                WaitStatus::Exited(_, code) => {
                    self.gone(pid, ExitStatus::from_raw(code << 8), &mut main_status);
                    continue;
                }
                WaitStatus::Signaled(_, signal, _) => {
                    self.gone(pid, ExitStatus::from_raw(signal as i32), &mut main_status);
                    continue;
                }
                WaitStatus::PtraceSyscall(_) if self.programs > 0 => {
                    self.stops += 1;
                    match decide(self.stops, pid) {
                        After::Continue => {}
                        After::Pause => return Ended::Paused(pid),
                        After::Kill => {
                            for process in &self.alive {
                                let _already_gone = kill(*process, Signal::SIGKILL);
                            }
                            continue;
                        }
                    }
                }
                WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => {
                    self.programs += 1;
                }
                WaitStatus::Stopped(_, signal) if signal != Signal::SIGSTOP && signal != Signal::SIGTRAP => {
                    pass_on = Some(signal);
                }
                _ => {}
            }
            match ptrace::syscall(pid, pass_on) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(err) => panic!("continuing {pid}: {err}"),
            }
        }
        Ended::Exited(main_status.expect("the main process was waited for"))
    }

    /// Waits for the traced processes only: other tests have children too.
    fn next(&mut self) -> (Pid, WaitStatus) {
        loop {
            // With one process, as nearly always, this waits in the kernel.
            let only = self.alive.len() == 1;
            for pid in self.alive.clone() {
                let flags =
                    if only { WaitPidFlag::__WALL } else { WaitPidFlag::__WALL | WaitPidFlag::WNOHANG };
                match waitpid(pid, Some(flags)) {
                    Ok(WaitStatus::StillAlive) => {}
                    Ok(event) => {
                        self.follow(pid, &event);
                        return (pid, event);
                    }
                    Err(Errno::ECHILD) => {
                        self.alive.remove(&pid);
                    }
                    Err(err) => panic!("waiting for {pid}: {err}"),
                }
            }
            std::thread::yield_now();
        }
    }

    fn follow(&mut self, pid: Pid, event: &WaitStatus) {
        use ptrace::Event;
        let WaitStatus::PtraceEvent(_, _, event) = event else { return };
        let births = [Event::PTRACE_EVENT_CLONE, Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK];
        if births.iter().any(|birth| *birth as i32 == *event)
            && let Ok(new) = ptrace::getevent(pid)
        {
            self.alive.insert(Pid::from_raw(i32::try_from(new).expect("a process id")));
        }
    }

    fn gone(&mut self, pid: Pid, status: ExitStatus, main_status: &mut Option<ExitStatus>) {
        self.alive.remove(&pid);
        if pid == self.main {
            *main_status = Some(status);
        }
    }
}

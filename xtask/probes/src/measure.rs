//! Runs one program once and prints what that cost.
//!
//! It is small and does this a single time: memory and CPU time of its children are then those of
//! this one run (getrusage(2) only adds up), and forking costs the same for all that is measured.
//!
//! `probe-measure STDIN STDOUT PROGRAM [ARGUMENT...]` prints `WALL_NS CPU_US MAXRSS_KIB FAULTS CODE`;
//! all but the wall time include what the program itself started and waited for. FAULTS are page faults
//! that needed no read from disk.

use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io;
use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe-measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(stdin), Some(stdout), Some(program)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(io::Error::other("takes STDIN STDOUT PROGRAM [ARGUMENT...]"));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(File::open(stdin)?).stdout(File::create(stdout)?);

    let begun = Instant::now();
    let status = command.spawn()?.wait()?;
    let wall = begun.elapsed();

    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (used.user_time(), used.system_time());
    let cpu = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    let (memory, faults) = (used.max_rss(), used.minor_page_faults());
    println!("{} {cpu} {memory} {faults} {}", wall.as_nanos(), status.code().unwrap_or(-1));
    Ok(())
}

//! A user of the host without privileges locks, watches, fills and links whatever it can reach, while
//! plugins are called: every call succeeds, at its usual speed, and no file is the user's to change.
//!
//! `OXCNI_HOSTILE_SECONDS` and `OXCNI_HOSTILE_SEED` make the attack longer and another one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use oxcni_tests::{Attack, Host, Outcome, Random, both_flavours, on_node, slowed};
use serde_json::json;

/// `nobody`, of Debian and most others.
const USER: libc::c_long = 65_534;

/// The folders in which plugins keep state; they are the host's own and not the machine's.
const FOLDERS: [&str; 2] = ["/run", "/var/lib"];

/// Makes the calling thread, and only it, one of a user without privileges; see credentials(7).
#[allow(
    unsafe_code,
    reason = "the functions of libc and nix change all threads; the system calls change one"
)]
fn become_user() {
    // SAFETY: these system calls take numbers, and a pointer that is not read where the count is 0.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, USER, USER, USER),
            libc::syscall(libc::SYS_setresuid, USER, USER, USER),
        ]
    };
    assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
    assert!(File::create("/run/by-the-user").is_err(), "the user may write to /run");
}

/// What the user holds: open files with their locks, watches, connections.
#[derive(Default)]
struct Loot {
    locked: BTreeMap<PathBuf, File>,
    connections: Vec<UnixStream>,
}

/// Counts of what the user managed.
#[derive(Debug, Default)]
struct Managed {
    rounds: AtomicU64,
    locks: AtomicU64,
    writes: AtomicU64,
}

/// Everything below these folders that the user can see.
fn reachable(folders: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<_> = folders.iter().map(PathBuf::from).collect();
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            found.extend(
                fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())),
            );
        }
    }
    found
}

impl Loot {
    /// Locks a file or folder for itself alone (flock(2)) and keeps it open.
    fn lock(&mut self, path: &Path, managed: &Managed) {
        if self.locked.contains_key(path) {
            return;
        }
        if let Ok(file) = File::open(path)
            && file.try_lock().is_ok()
        {
            managed.locks.fetch_add(1, Ordering::Relaxed);
            self.locked.insert(path.to_owned(), file);
        }
    }

    fn connect(&mut self, path: &Path) {
        if self.connections.len() < 200 {
            self.connections.extend(UnixStream::connect(path));
        }
    }
}

/// Tries to write, to fill, and to leave files and links.
fn spoil(path: &Path, managed: &Managed) {
    let mut done =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(&[0; 1 << 16])).is_ok();
    for name in ["lock", "10.1.0.2", "index", "eth0", "log"] {
        done |= File::create(path.join(name)).is_ok();
        done |= symlink("/etc/passwd", path.join(format!("{name}.link"))).is_ok();
        done |= fs::hard_link(path, path.with_extension(name)).is_ok();
    }
    managed.writes.fetch_add(u64::from(done), Ordering::Relaxed);
}

/// The user, until `done`.
fn user(host: &Host, mut random: Random, done: &AtomicBool, managed: &Managed) {
    host.enter(|| {
        become_user();
        let mut loot = Loot::default();
        let watches = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
        while !done.load(Ordering::Relaxed) {
            loot.lock(Path::new("/proc/thread-self/ns/net"), managed);
            loot.lock(Path::new("/proc/thread-self/ns/mnt"), managed);
            for path in reachable(&FOLDERS) {
                loot.lock(&path, managed);
                let _limit_reached = watches.add_watch(&path, AddWatchFlags::IN_ALL_EVENTS);
                let _nothing_new = watches.read_events();
                if random.below(4) == 0 {
                    loot.connect(&path);
                    spoil(&path, managed);
                }
            }
            // What was deleted and made again is another file.
            if random.below(8) == 0 {
                loot.locked.retain(|path, file| {
                    let same = |one: fs::Metadata, other: fs::Metadata| one.ino() == other.ino();
                    path.metadata().and_then(|one| Ok(same(one, file.metadata()?))).unwrap_or(false)
                });
            }
            managed.rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Runs `life` again and again while the user does what it can; every call of it must succeed.
fn attacked(host: &Host, life: impl Fn() -> Vec<(&'static str, Duration)>) {
    let Attack { duration, seed } = Attack::from_environment();
    let slowest = |times: Vec<(&'static str, Duration)>| times.into_iter().max_by_key(|(_, time)| *time);
    let usual = slowest(life()).expect("calls").1;
    let limit = slowed(Duration::from_secs(1)) + 5 * usual;
    let (done, managed) = (AtomicBool::new(false), Managed::default());
    let end = Instant::now() + duration;
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| user(host, Random::new(seed), &done, &managed));
        let calls = || {
            // The first calls find the user at work.
            while managed.rounds.load(Ordering::Relaxed) == 0 && !attacker.is_finished() {
                std::thread::yield_now();
            }
            let mut lives = 0;
            while Instant::now() < end || lives == 0 {
                let (call, time) = slowest(life()).expect("calls");
                assert!(time < limit, "{call} took {time:?}, usually {usual:?} (seed {seed})");
                lives += 1;
            }
            lives
        };
        // The user must end, too, where a call fails.
        let lived = catch_unwind(AssertUnwindSafe(calls));
        done.store(true, Ordering::Relaxed);
        attacker.join().unwrap_or_else(|panic| resume_unwind(panic));
        let lives = lived.unwrap_or_else(|panic| resume_unwind(panic));
        println!("seed {seed}: {lives} lives, {managed:?}");
    });
    assert!(managed.locks.load(Ordering::Relaxed) > 0, "the user could lock nothing: {managed:?}");
    assert_eq!(managed.writes.load(Ordering::Relaxed), 0, "the user wrote");
    for folder in FOLDERS {
        for file in host.files_below(folder) {
            let Ok(metadata) = host.path(&file).symlink_metadata() else { continue };
            let open_to_others = !metadata.is_symlink() && metadata.mode() & 0o022 != 0;
            assert!(!open_to_others, "{file} has mode {:o}", metadata.mode());
            assert_eq!(metadata.uid(), 0, "{file}");
        }
    }
}

fn timed(call: impl FnOnce() -> Outcome) -> (Outcome, Duration) {
    let begun = Instant::now();
    let outcome = call();
    (outcome, begun.elapsed())
}

both_flavours! {
    fn a_user_of_the_host_stops_no_plugin(host) {
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-user", "isDefaultGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/16" }], [{ "subnet": "fd00:1::/64" }]] },
        }));
        let pod = host.container();
        attacked(&host, || {
            let (status, status_time) = timed(|| net.status());
            status.succeeds();
            let (added, add_time) = timed(|| net.add(&pod));
            let result = added.result();
            let (checked, check_time) = timed(|| net.check(&pod, &result));
            checked.succeeds();
            let (collected, gc_time) = timed(|| net.gc(&[&pod]));
            collected.succeeds();
            let (deleted, del_time) = timed(|| net.del(&pod));
            deleted.succeeds();
            vec![("STATUS", status_time), ("ADD", add_time), ("CHECK", check_time), ("GC", gc_time), ("DEL", del_time)]
        });
        assert!(host.reservations("net").is_empty());
    }
}

on_node! {
    fn a_user_of_the_host_stops_no_pod(node) {
        node.configure("logFile", json!("/run/multus/multus.log"));
        node.configure("logLevel", json!("debug"));
        node.host.sh("mkdir -p /run/multus");
        node.definition("a", &oxcni_tests::bridge("net-a", "10.1.0.0/16"));
        node.definition("b", &oxcni_tests::bridge("net-b", "10.2.0.0/16"));
        let pod = node.pod("p", "a,b");
        attacked(&node.host, || {
            let (added, add_time) = timed(|| pod.add());
            added.succeeds();
            let (deleted, del_time) = timed(|| pod.del());
            deleted.succeeds();
            vec![("ADD", add_time), ("DEL", del_time)]
        });
        assert!(!node.read("/run/multus/multus.log").is_empty());
    }
}

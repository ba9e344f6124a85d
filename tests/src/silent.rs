//! A file system that never answers: of FUSE, whose daemon reads requests and is silent.

use std::fs::{File, OpenOptions};
use std::io::{PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Host;

/// `FUSE_INIT` of include/uapi/linux/fuse.h: the one request that is answered.
const INIT: u32 = 26;
/// `struct fuse_in_header`.
const HEADER: usize = 40;

/// The file system, until it is dropped: then what waits for it gets an error.
#[derive(Debug)]
pub struct SilentFiles {
    requests: Arc<AtomicU64>,
    end: Option<PipeWriter>,
    daemon: Option<JoinHandle<()>>,
}

impl Host {
    /// Mounts such a file system on a folder, which is made.
    pub fn mount_silent_files(&self, folder: &str) -> SilentFiles {
        let device = self.enter(|| {
            std::fs::create_dir_all(folder).expect("the folder");
            let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
            let options =
                format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
            mount(Some("silent"), folder, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
                .expect("mounting FUSE");
            device
        });
        let (ended, end) = std::io::pipe().expect("a pipe");
        let requests = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&requests);
        let daemon = std::thread::spawn(move || {
            loop {
                let mut fds = [
                    PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                    PollFd::new(device.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut fds, PollTimeout::NONE).expect("poll");
                if fds[0].any().unwrap_or(true) {
                    return;
                }
                if read_request(&device) {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        SilentFiles { requests, end: Some(end), daemon: Some(daemon) }
    }
}

/// Reads a request and is silent; false for the first, without which nothing could be mounted.
fn read_request(mut device: &File) -> bool {
    let mut request = vec![0; 1 << 17];
    let length = device.read(&mut request).expect("a request");
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
    assert!(length >= HEADER, "a request of {length} bytes");
    if word(4) != INIT {
        return true;
    }
    // `struct fuse_init_out` of version 7.31, of which only the version and the longest write matter.
    let mut answer = [7, 31, 0, 0, 0, 4096].map(u32::to_ne_bytes).concat();
    answer.resize(64, 0);
    let length = u32::try_from(16 + answer.len()).expect("a short answer");
    let header = [&length.to_ne_bytes()[..], &[0; 4], &request[8..16]].concat();
    device.write_all(&[header, answer].concat()).expect("answering FUSE_INIT");
    false
}

impl SilentFiles {
    /// How many requests were read and not answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for SilentFiles {
    fn drop(&mut self) {
        // When the device is closed, the kernel ends all requests.
        drop(self.end.take());
        if let Some(daemon) = self.daemon.take() {
            drop(daemon.join());
        }
    }
}

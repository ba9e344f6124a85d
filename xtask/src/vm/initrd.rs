//! The initial memory file system, an archive in the kernel's `newc` cpio format:
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>.

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Initrd {
    bytes: Vec<u8>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;

impl Initrd {
    /// Adds an empty folder; its parent must have been added before.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file that can be executed.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK, target.as_bytes());
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime
            length(content),
            0, // device, major and minor
            0,
            0, // device a node stands for, major and minor
            0,
            length(path.as_bytes()) + 1,
            0, // checksum, of another variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn length(content: &[u8]) -> u32 {
    u32::try_from(content.len()).expect("a file of the initrd is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::Initrd;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_we_write() {
        let Ok(mut cpio) = Command::new("cpio")
            .args(["-tv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return; // cpio is not needed for anything else
        };
        let mut initrd = Initrd::default();
        initrd.folder("bin");
        initrd.file("bin/odd", b"12345");
        initrd.symlink("bin/sh", "odd");
        cpio.stdin.take().unwrap().write_all(&initrd.finish()).unwrap();
        let listing = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let names: Vec<&str> = listing.lines().map(|line| line.rsplit("00:00").next().unwrap()).collect();
        assert!(listing.contains("drwxr-xr-x") && listing.contains("bin/sh -> odd"), "{listing}");
        assert_eq!(names.len(), 3, "{listing}");
    }
}

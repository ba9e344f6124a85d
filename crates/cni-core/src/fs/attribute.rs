//! Extended attributes of open files (xattr(7)), for which std and nix have no functions.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

/// Sets an attribute.
#[allow(unsafe_code)] // a plain system call; pointers and lengths are those of live slices
pub(super) fn set_attribute(file: &File, key: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `key` up to its NUL and `value.len()` bytes of `value`.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result)?;
    Ok(())
}

/// The value of an attribute, read into `buffer`; `None` where the file does not have it, the
/// file system does not support attributes, or the value is longer than the buffer.
#[allow(unsafe_code)] // a plain system call; pointers and lengths are those of live slices
pub fn attribute<'a>(file: &File, key: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: the kernel reads `key` up to its NUL and writes at most `buffer.len()` bytes.
    let len =
        unsafe { libc::fgetxattr(file.as_raw_fd(), key.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.get(..usize::try_from(len).ok()?)
}

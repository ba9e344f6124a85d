//! Calling another plugin, in this process where the file found is this program.

mod depth;
mod exec;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::lock::{self, within};
use crate::plugin::{self, Plugin};
use crate::request::Request;
use crate::spec::{AddResult, Code, Error, PluginType, Result};

/// Calls the plugin of a type with a request, and returns the result where it is an ADD.
///
/// # Errors
/// That of the plugin; [`Code::INVALID_CONFIG`] when there is no such plugin, [`Code::DELEGATE`] when its
/// answer is not that of a plugin or does not come in time ([`crate::request::ExecOptions`]),
/// [`Code::TRY_AGAIN`] when it waited in this process for a lock until its time was over.
pub fn call(plugin_type: &PluginType, request: &Request) -> Result<Option<AddResult>> {
    let file = find(plugin_type, &request.env.path)?;
    depth::deeper(plugin_type, || match in_process(plugin_type, &file, request.plugins) {
        Some(plugin) => {
            let result = call_guarded(plugin, plugin_type, request)?;
            result.map(|result| result.through(request.conf.cni_version)).transpose()
        }
        None => exec::execute(&file, request),
    })
}

/// How long a delegate may take where its caller sets no limit: less than the two minutes after which
/// a kubelet gives up.
const DEFAULT_LIMIT: Duration = Duration::from_secs(110);

fn time_limit(request: &Request) -> Duration {
    request.exec.time_limit.unwrap_or(DEFAULT_LIMIT)
}

/// How long the plugin that runs in the process of its caller may still take; `None` where it is the process.
pub fn remaining() -> Option<Duration> {
    lock::remaining()
}

/// A plugin that panics in this process fails like one that crashes in its own: its caller goes on, and
/// undoes or calls the others.
fn call_guarded(
    plugin: &dyn Plugin,
    plugin_type: &PluginType,
    request: &Request,
) -> Result<Option<AddResult>> {
    let call = || within(Some(time_limit(request)), || plugin::call(plugin, request));
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::new(Code::PANIC, format!("defect in {plugin_type}: it panicked"))))
}

/// The first file of that name in the folders of `CNI_PATH`.
///
/// # Errors
/// [`Code::INVALID_CONFIG`], with the folders that were searched.
pub fn find(plugin_type: &PluginType, path: &[PathBuf]) -> Result<PathBuf> {
    let is_plugin = |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file());
    path.iter().map(|folder| folder.join(plugin_type.as_str())).find(is_plugin).ok_or_else(|| {
        let folders: Vec<_> = path.iter().map(|folder| folder.display().to_string()).collect();
        Error::invalid_config(format!("no plugin of type {:?} is installed", plugin_type.as_str()))
            .details(format!("searched in CNI_PATH: {}", folders.join(", ")))
    })
}

/// The plugin of this program by that name, where the file found is this program.
///
/// A node where `host-local` was replaced by another program runs that program.
pub fn in_process(
    plugin_type: &PluginType,
    file: &Path,
    plugins: &'static [&'static dyn Plugin],
) -> Option<&'static dyn Plugin> {
    let plugin = plugin::find(plugins, plugin_type)?;
    is_this_program(file).then_some(plugin)
}

/// Whether a file is the program that is running: the same inode, or a copy of the same
/// build (images are often installed with plain `cp`).
fn is_this_program(file: &Path) -> bool {
    let own = Path::new("/proc/self/exe");
    let (Ok(theirs), Ok(ours)) = (fs::metadata(file), fs::metadata(own)) else {
        return false;
    };
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return true;
    }
    theirs.len() == ours.len() && build_id(file).is_some_and(|id| build_id(own) == Some(id))
}

/// The build id of a 64-bit little-endian ELF file: the note `GNU` of type 3 in a segment
/// `PT_NOTE` (elf(5)). The linker computes it over the whole content.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    const PT_NOTE: u64 = 4;
    const NT_GNU_BUILD_ID: u64 = 3;
    let file = File::open(path).ok()?;
    let read = |offset: u64, len: u64| {
        let mut bytes = vec![0; usize::try_from(len.min(4096)).ok()?];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut raw = [0; 8];
        raw[..len].copy_from_slice(bytes.get(at..at + len)?);
        Some(u64::from_le_bytes(raw))
    };
    let header = read(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry, count) = (number(&header, 32, 8)?, number(&header, 54, 2)?, number(&header, 56, 2)?);
    for i in 0..count.min(64) {
        let segment = read(table.checked_add(i * entry)?, 56)?;
        if number(&segment, 0, 4)? != PT_NOTE {
            continue;
        }
        let notes = read(number(&segment, 8, 8)?, number(&segment, 32, 8)?)?;
        let mut at = 0;
        while let (Some(name), Some(len), Some(kind)) =
            (number(&notes, at, 4), number(&notes, at + 4, 4), number(&notes, at + 8, 4))
        {
            let name_end = at + 12 + usize::try_from(name.next_multiple_of(4)).ok()?;
            let end = name_end + usize::try_from(len.next_multiple_of(4)).ok()?;
            if kind == NT_GNU_BUILD_ID && notes.get(at + 12..at + 16) == Some(b"GNU\0") {
                return notes.get(name_end..name_end + usize::try_from(len).ok()?).map(<[u8]>::to_vec);
            }
            at = end;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_plugin_names_the_folders() {
        let path = [PathBuf::from("/nonexistent/a"), PathBuf::from("/nonexistent/b")];
        let error = find(&"x".parse().unwrap(), &path).unwrap_err();
        assert_eq!(error.code(), Code::INVALID_CONFIG);
        assert!(error.to_string().contains("/nonexistent/a, /nonexistent/b"), "{error}");
    }

    #[test]
    fn this_program_and_its_copies_are_recognised() {
        let own = std::env::current_exe().unwrap();
        assert!(is_this_program(&own));
        assert!(!is_this_program(Path::new("/bin/sh")));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fs::copy(&own, &copy).unwrap();
        assert_eq!(is_this_program(&copy), build_id(&own).is_some());
    }
}

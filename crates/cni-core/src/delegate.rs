//! Calling another plugin, in this process where the file found is this program.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use crate::plugin::{self, Plugin};
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Error, PluginType, Result};

/// The longest answer that is read from a plugin, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;

/// Calls the plugin of a type with a request, and gives the result where it was an ADD.
///
/// # Errors
/// That of the plugin as it gave it; [`Code::INVALID_CONFIG`] when there is no such plugin,
/// [`Code::DELEGATE`] when it did not answer as a plugin does.
pub fn call(plugin_type: &PluginType, request: &Request) -> Result<Option<AddResult>> {
    let file = find(plugin_type, &request.env.path)?;
    match in_process(plugin_type, &file, request.plugins) {
        Some(plugin) => {
            plugin::call(plugin, request)?.map(|result| result.through(request.conf.cni_version)).transpose()
        }
        None => execute(&file, request),
    }
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
/// A node where somebody replaced `host-local` by another program still runs that program.
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

/// Executes the file with the request as its environment and standard input.
fn execute(file: &Path, request: &Request) -> Result<Option<AddResult>> {
    let failed = |what: &str, err| {
        Error::io(format!("{what} plugin {}", file.display()), err).with_code(Code::DELEGATE)
    };
    let mut child = process(file, request).spawn().map_err(|err| {
        let executable = fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
        failed("executing", err).details(if executable { "" } else { "the file is not executable" })
    })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    // Both at once: a plugin may answer before it has read everything.
    let read = std::thread::scope(|scope| {
        // A plugin that does not read its input is none that fails for it.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&request.text)));
        stdout.map_or(Ok(0), |stdout| stdout.take(MAX_OUTPUT).read_to_end(&mut output))
    });
    let status = child.wait().map_err(|err| failed("waiting for", err))?;
    read.map_err(|err| failed("reading from", err))?;
    if !status.success() {
        return Err(Error::from_json(&output).unwrap_or_else(|| {
            Error::new(
                Code::DELEGATE,
                format!("plugin {} failed without an error object: {status}", file.display()),
            )
            .details(format!("it printed {:?}", String::from_utf8_lossy(&output[..output.len().min(200)])))
        }));
    }
    if request.env.command != Command::Add {
        return Ok(None);
    }
    let result = AddResult::from_json(&output, request.conf.cni_version);
    result.map(Some).map_err(|err| {
        err.context(format!("plugin {} printed no result", file.display())).with_code(Code::DELEGATE)
    })
}

/// The process of a plugin, with the variables of the specification and nothing else changed.
fn process(file: &Path, request: &Request) -> Process {
    let env = &request.env;
    let mut process = Process::new(file);
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut set = |name: &str, value: Option<&std::ffi::OsStr>| {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    };
    set("CNI_COMMAND", Some(env.command.as_str().as_ref()));
    set("CNI_CONTAINERID", env.attachment.as_ref().map(|at| at.container_id.as_str().as_ref()));
    set("CNI_IFNAME", env.attachment.as_ref().map(|at| at.ifname.as_str().as_ref()));
    set("CNI_NETNS", env.netns.as_ref().map(|path| path.as_os_str()));
    set("CNI_ARGS", Some(env.args.to_string().as_ref()));
    set("CNI_PATH", std::env::join_paths(&env.path).ok().as_deref());
    set("CNI_NETNS_OVERRIDE", env.netns_override.then_some("1".as_ref()));
    process
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

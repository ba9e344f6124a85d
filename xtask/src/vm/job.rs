//! The command that runs in the machine, as settings for the shell scripts inside.

use super::kernel::Kernel;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command to run in the machine.
#[derive(Debug)]
pub(crate) struct Job {
    /// Program and arguments; empty for an interactive shell.
    pub(crate) command: Vec<OsString>,
    /// Where it runs.
    pub(crate) folder: PathBuf,
    /// Its environment, in addition to what it inherits.
    pub(crate) environment: Vec<(String, OsString)>,
}

/// The variables that a command in the machine inherits: the others describe this machine.
const INHERITED: [&str; 6] = ["HOME", "LANG", "LC_ALL", "PATH", "TERM", "USER"];
const INHERITED_PREFIXES: [&str; 3] = ["CARGO", "OXCNI_", "RUST"];

impl Job {
    /// Whether this is a shell for a person.
    pub(crate) fn is_interactive(&self) -> bool {
        self.command.is_empty()
    }

    /// Shell variables for `init.sh`.
    pub(super) fn settings(&self, kernel: &Kernel, results: &Path, limit: Duration) -> String {
        let set = |name: &str, value: &str| format!("{name}={}\n", quoted(value));
        // A little over our own limit, which usually ends the machine first.
        let limit = limit.as_secs() + 30;
        let limit = if self.is_interactive() { u64::from(u32::MAX) } else { limit };
        [
            set("RESULTS", &results.to_string_lossy()),
            set("MODULES", &kernel.folder.to_string_lossy()),
            set("RELEASE", &kernel.release),
            set("INTERACTIVE", if self.is_interactive() { "1" } else { "0" }),
            set("LIMIT", &limit.to_string()),
        ]
        .concat()
    }

    /// The shell script that becomes the command.
    pub(super) fn script(&self) -> String {
        let mut script = String::new();
        for (name, value) in self.inherited().chain(self.environment.clone()) {
            script.push_str(&format!("export {name}={}\n", quoted(&value.to_string_lossy())));
        }
        let folder = quoted(&self.folder.to_string_lossy());
        script.push_str(&format!("cd {folder} || exit 125\n"));
        if self.is_interactive() {
            script.push_str(&window_size());
            script.push_str("echo \"The checkout is here; what is written stays in the machine.\"\n");
            script.push_str("exec bash -i\n");
        } else {
            let arguments: Vec<String> =
                self.command.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
            script.push_str(&format!("exec {}\n", arguments.join(" ")));
        }
        script
    }

    fn inherited(&self) -> impl Iterator<Item = (String, OsString)> {
        std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let wanted = INHERITED.contains(&name.as_str())
                || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let is_shell_name = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
            (wanted && is_shell_name).then_some((name, value))
        })
    }
}

/// A line that gives the machine's terminal the size of ours, which it can't query.
fn window_size() -> String {
    let size = std::process::Command::new("stty").arg("size").output();
    let text = size.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    match text.unwrap_or_default().split_whitespace().collect::<Vec<_>>()[..] {
        [rows, columns] => format!("stty rows {rows} cols {columns}\n"),
        _ => String::new(),
    }
}

/// Quotes a text so that a POSIX shell reads it as one argument.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use std::process::Command;

    #[test]
    fn a_shell_reads_a_quoted_text_unchanged() {
        let text = "it's \"$HOME\" \\ `x`\n;*";
        let out = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output().unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
    }
}

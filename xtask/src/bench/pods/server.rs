//! The API server of the tests, as a process of its own beside what is measured.

use crate::error::{Context, Failure, Result};
use crate::process::run;
use crate::progress::Progress;
use crate::workspace::{Workspace, cargo};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAME: &str = "apiserver";

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) kubeconfig: PathBuf,
}

/// What the program is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// Measurements: multus waits for its answers.
    RunsFast,
    /// Calls whose duration does not matter: as the tests use it.
    BuiltFast,
}

/// Builds the program, in either case without the link-time optimisation of what goes on nodes, which
/// takes minutes.
pub(crate) fn build(workspace: &Workspace, speed: Speed, progress: &Progress) -> Result<PathBuf> {
    progress.print("Building the tests' API server");
    let mut build = cargo();
    build.args(["build", "--bin", NAME, "--manifest-path"]).arg(workspace.root.join("Cargo.toml"));
    let profile = match speed {
        Speed::BuiltFast => {
            // With the features of the whole workspace, most of it is what the tests use, too.
            build.arg("--workspace");
            "debug"
        }
        Speed::RunsFast => {
            build.args(["--package", "oxcni-tests", "--release"]);
            build.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            "release"
        }
    };
    run(&mut build)?;
    Ok(workspace.target.join(profile).join(NAME))
}

impl Server {
    /// Starts the program on this process' loopback with these objects; its files go to `folder`.
    pub(crate) fn start(program: &Path, folder: &Path, objects: &[Value]) -> Result<Self> {
        let (file, kubeconfig) = (folder.join("objects.json"), folder.join("kubeconfig"));
        let text = Value::from(objects).to_string();
        fs::write(&file, text).context(|| format!("can't write {}", file.display()))?;
        let mut process = Command::new(program)
            .args([&file, &kubeconfig])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("can't start {}", program.display()))?;
        let mut ready = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut ready)
                .context(|| "can't read the API server's address".into())?;
        }
        if ready.is_empty() {
            return Err(Failure::new("the API server ended before it was ready"));
        }
        Ok(Self { process, kubeconfig })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

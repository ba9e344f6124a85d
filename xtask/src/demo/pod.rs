//! Pods, and multus called for them as a kubelet's container runtime does.

use crate::error::{Context, Failure, Result};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The plugins that are shown.
#[derive(Debug)]
pub(crate) struct Plugins {
    /// The program that is called.
    pub(crate) multus: PathBuf,
    /// The folder of its delegates.
    pub(crate) folder: PathBuf,
}

/// Multus with its configuration.
#[derive(Debug)]
pub(crate) struct Multus<'a> {
    pub(crate) plugins: &'a Plugins,
    pub(crate) config: Value,
}

/// A pod: its name, which is its sandbox' container id too, and its network namespace.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) netns: PathBuf,
}

/// The Kubernetes namespace of all pods here.
pub(crate) const NAMESPACE: &str = "default";

impl Multus<'_> {
    /// Attaches a pod; returns the default network's result and the time it took.
    pub(crate) fn add(&self, pod: &Pod) -> Result<(Value, Duration)> {
        self.call("ADD", pod, self.config.clone())
    }

    /// Checks that all attachments are as ADD left them.
    pub(crate) fn check(&self, pod: &Pod, result: &Value) -> Result<Duration> {
        self.call("CHECK", pod, self.with_result(result)).map(|(_, time)| time)
    }

    /// Deletes all attachments.
    pub(crate) fn del(&self, pod: &Pod, result: &Value) -> Result<Duration> {
        self.call("DEL", pod, self.with_result(result)).map(|(_, time)| time)
    }

    fn with_result(&self, result: &Value) -> Value {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        config
    }

    fn call(&self, verb: &str, pod: &Pod, config: Value) -> Result<(Value, Duration)> {
        let name = pod.name;
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={name}"
        );
        call(&self.plugins.multus, &self.plugins.folder, verb, pod, &args, config)
    }
}

/// Calls a plugin for a pod's interface `eth0`, with delegates of a folder; returns what it printed and
/// the time it took.
pub(crate) fn call(
    program: &Path,
    folder: &Path,
    verb: &str,
    pod: &Pod,
    args: &str,
    config: Value,
) -> Result<(Value, Duration)> {
    let name = pod.name;
    let begun = Instant::now();
    let mut process = Command::new(program)
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", name)
        .env("CNI_NETNS", &pod.netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", args)
        .env("CNI_PATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| format!("can't start {}", program.display()))?;
    if let Some(mut stdin) = process.stdin.take() {
        match stdin.write_all(config.to_string().as_bytes()) {
            // A plugin that ends early prints its reason.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.context(|| "can't write the configuration".into())?,
        }
    }
    let out = process.wait_with_output().context(|| format!("can't wait for {}", program.display()))?;
    let time = begun.elapsed();
    let output = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        return Err(Failure::new(format!("{verb} of {name} failed: {output}")));
    }
    let result = if output.trim().is_empty() {
        json!(null)
    } else {
        serde_json::from_str(&output).context(|| format!("{verb} printed no JSON: {output}"))?
    };
    Ok((result, time))
}

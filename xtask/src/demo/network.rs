//! A network and its containers, called as a container runtime calls plugins.

use crate::error::{Context, Failure, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A network configuration and the folder of plugins that make it.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub(crate) plugins: &'a Path,
    pub(crate) config: Value,
}

/// A container: its name, which is its id too, and its network namespace.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) name: &'static str,
    pub(crate) netns: PathBuf,
}

impl Network<'_> {
    /// Attaches a container; gives the result and the time it took.
    pub(crate) fn add(&self, container: &Container) -> Result<(Value, Duration)> {
        self.call("ADD", container, self.config.clone())
    }

    /// Checks that an attachment is as ADD's result says.
    pub(crate) fn check(&self, container: &Container, result: &Value) -> Result<Duration> {
        self.call("CHECK", container, self.with_result(result)).map(|(_, time)| time)
    }

    /// Takes an attachment down.
    pub(crate) fn del(&self, container: &Container, result: &Value) -> Result<Duration> {
        self.call("DEL", container, self.with_result(result)).map(|(_, time)| time)
    }

    fn with_result(&self, result: &Value) -> Value {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        config
    }

    fn call(&self, verb: &str, container: &Container, config: Value) -> Result<(Value, Duration)> {
        let plugin = self.plugins.join(config["type"].as_str().unwrap_or_default());
        let begun = Instant::now();
        let mut process = Command::new(&plugin)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container.name)
            .env("CNI_NETNS", &container.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("can't start {}", plugin.display()))?;
        if let Some(mut stdin) = process.stdin.take() {
            stdin
                .write_all(config.to_string().as_bytes())
                .context(|| "can't hand over the configuration".into())?;
        }
        let out = process.wait_with_output().context(|| format!("can't wait for {}", plugin.display()))?;
        let time = begun.elapsed();
        let said = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            return Err(Failure::new(format!("{verb} of {} failed: {said}", container.name)));
        }
        let result = if said.trim().is_empty() {
            json!(null)
        } else {
            serde_json::from_str(&said).context(|| format!("{verb} printed no JSON: {said}"))?
        };
        Ok((result, time))
    }
}

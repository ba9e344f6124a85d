//! The network status of pods: what multus wrote, as it is and as a table.

use super::pod::{NAMESPACE, Pod};
use crate::error::{Context, Result};
use crate::table::{Style, Table};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// The annotation that a cluster would hold.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) pod: &'static str,
    /// As written.
    text: String,
    pub(crate) entries: Vec<Entry>,
}

/// One interface of a pod.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) interface: String,
    #[serde(default)]
    pub(crate) ips: Vec<String>,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    default: bool,
}

impl Status {
    /// Reads what multus wrote; without a cluster that is a file below `cniDir`.
    pub(crate) fn read(cni_dir: &Path, pod: &Pod) -> Result<Self> {
        let file = cni_dir.join("network-status").join(format!("{NAMESPACE}_{}.json", pod.name));
        let text = fs::read_to_string(&file).context(|| format!("can't read {}", file.display()))?;
        let entries =
            serde_json::from_str(&text).context(|| format!("{} can't be read: {text}", file.display()))?;
        Ok(Self { pod: pod.name, text, entries })
    }

    /// The text as written, with keys that stand out.
    pub(crate) fn painted(&self) -> String {
        let lines = self.text.lines().map(|line| match key_end(line) {
            Some((start, end)) => {
                format!("    {}{}{}\n", &line[..start], Style::Accent.paint(&line[start..end]), &line[end..])
            }
            None => format!("    {line}\n"),
        });
        lines.collect()
    }
}

/// Where the key of a line of JSON begins and ends, with its quotes.
fn key_end(line: &str) -> Option<(usize, usize)> {
    let start = line.find('"')?;
    let end = line.find("\":")? + 1;
    line[..start].trim().is_empty().then_some((start, end))
}

/// All pods' interfaces, grouped by pod.
pub(crate) fn table(statuses: &[Status]) -> Table {
    let mut table = Table::new(["pod", "network", "interface", "addresses", "MAC", ""]);
    for status in statuses {
        table.line();
        let mut title = Style::Bold.paint(status.pod);
        for entry in &status.entries {
            table.row([
                std::mem::take(&mut title),
                entry.name.clone(),
                Style::Accent.paint(&entry.interface),
                entry.ips.join("\n"),
                entry.mac.clone(),
                if entry.default { "default network".to_owned() } else { String::new() },
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::key_end;

    #[test]
    fn only_keys_stand_out() {
        assert_eq!(key_end(r#"    "name": "a","#), Some((4, 10)));
        assert_eq!(key_end(r#"        "fd00::5","#), None);
        assert_eq!(key_end("},{"), None);
    }
}

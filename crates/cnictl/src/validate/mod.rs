//! `cnictl validate`: a configuration, or a NetworkAttachmentDefinition, before anything uses it.

mod definition;
mod known;
mod links;
mod network;
mod source;
mod tree;
mod unknown;

use std::io::Read;
use std::path::{Path, PathBuf};

use cni_core::fs;
use cni_core::spec::{Error, Result};
use serde_json::{Value, json};

use crate::Outcome;
use crate::node::Node;
use crate::output::{Output, Tone, printable};
use source::{Place, Source};

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 4 << 20;

/// Something that a person should look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// The file, where it is another than the one that is looked at.
    pub(crate) file: Option<PathBuf>,
    /// Where, as far as that is known.
    pub(crate) place: Option<Place>,
    /// What.
    pub(crate) message: String,
    /// Whether it is wrong, or only worth a look.
    pub(crate) is_wrong: bool,
}

impl Finding {
    fn wrong(place: impl Into<Option<Place>>, message: impl Into<String>) -> Finding {
        Finding { file: None, place: place.into(), message: message.into(), is_wrong: true }
    }

    fn remark(place: impl Into<Option<Place>>, message: impl Into<String>) -> Finding {
        Finding { is_wrong: false, ..Finding::wrong(place, message) }
    }

    /// As compilers print it: `FILE:LINE:COLUMN: message`. `looked_at` is the file that is looked at.
    pub(crate) fn line(&self, looked_at: &str) -> String {
        let file = self.file(looked_at);
        let place = self.place.map(|place| format!(":{}:{}", place.line, place.column)).unwrap_or_default();
        format!("{}{place}: {}", printable(&file), printable(&self.message))
    }

    fn file(&self, looked_at: &str) -> String {
        self.file.as_ref().map_or_else(|| looked_at.to_owned(), |file| file.display().to_string())
    }

    fn to_json(&self, looked_at: &str) -> Value {
        json!({
            "file": self.file(looked_at), "line": self.place.map(|place| place.line),
            "column": self.place.map(|place| place.column), "message": self.message,
            "severity": if self.is_wrong { "error" } else { "remark" },
        })
    }
}

/// `cnictl validate`.
pub(crate) fn validate(node: &Node, files: &[PathBuf], output: &Output) -> Result<Outcome> {
    let mut all = Vec::new();
    for file in files {
        let is_stdin = file == Path::new("-");
        let text = if is_stdin { stdin()? } else { read(file)? };
        let name = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
        let folder = if is_stdin { node.conf_dir.clone() } else { file.with_file_name("") };
        let findings = check(node, &text, &folder);
        if !output.is_json() {
            let tone = |finding: &Finding| if finding.is_wrong { Tone::Bad } else { Tone::Odd };
            findings.iter().for_each(|f| output.print(&output.toned(&f.line(&name), tone(f))));
            if !findings.iter().any(|finding| finding.is_wrong) {
                output.print(&output.toned(&format!("{}: valid", printable(&name)), Tone::Good));
            }
        }
        all.extend(findings.into_iter().map(|finding| (name.clone(), finding)));
    }
    if output.is_json() {
        output.json(&all.iter().map(|(name, finding)| finding.to_json(name)).collect());
    }
    let is_good = !all.iter().any(|(_, finding)| finding.is_wrong);
    Ok(if is_good { Outcome::Good } else { Outcome::Findings })
}

/// All that there is to say of a file of the folder of configurations.
pub(crate) fn of_file(node: &Node, file: &Path) -> Vec<Finding> {
    match read(file) {
        Ok(text) => check(node, &text, &file.with_file_name("")),
        Err(err) => vec![Finding::wrong(None, err.to_string())],
    }
}

/// All that there is to say of a text; `folder` is where its file is.
fn check(node: &Node, text: &str, folder: &Path) -> Vec<Finding> {
    let is_json = text.trim_start().starts_with('{');
    let is_object = || tree::Node::parse(text).is_ok_and(|root| root.member("kind").is_some());
    let mut findings = if is_json && !is_object() {
        network::check(node, &Source::whole(text), &network::Origin::File(folder))
    } else {
        definition::check(node, text)
    };
    findings.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    findings.dedup();
    findings
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read_bounded(file, MAX_FILE + 1).map_err(|err| fs::failed("reading", file, err))?;
    text(bytes, &file.display().to_string())
}

fn stdin() -> Result<String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|err| Error::io("reading standard input", err))?;
    text(bytes, "standard input")
}

/// Invalid UTF-8 becomes U+FFFD, as plugins read it.
fn text(bytes: Vec<u8>, name: &str) -> Result<String> {
    if bytes.len() > MAX_FILE {
        return Err(Error::invalid_config(format!("{name} is longer than {} MiB", MAX_FILE >> 20)));
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned()))
}

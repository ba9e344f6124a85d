//! Plugins of the suite's own, under any name in `CNI_PATH`: they answer what a case says and record
//! how they were called. By them a plugin that delegates is held to section 4 of the specification,
//! and a runtime to sections 1 and 3.

use crate::Result;
use crate::case::{Answer, Double};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where they are while a case runs.
pub const FOLDER: &str = "/run/cni-conformance/doubles";

/// The file of all calls, a JSON object a line. Appending a line that short is atomic.
const CALLS: &str = "calls.jsonl";

/// Puts one there.
pub(crate) fn install(double: &Double) -> Result<()> {
    let folder = Path::new(FOLDER);
    let answers = serde_json::to_string(&double.answers).map_err(|error| error.to_string())?;
    fs::write(answers_of(folder, &double.name), answers).map_err(|error| format!("can't write: {error}"))?;
    let program = folder.join(&double.name);
    let _ = fs::remove_file(&program);
    symlink("../suite", &program).map_err(|error| format!("can't make {}: {error}", program.display()))
}

/// What they were called with, in order.
pub(crate) fn recorded(by: Option<&str>) -> Result<Value> {
    let text = fs::read_to_string(Path::new(FOLDER).join(CALLS)).unwrap_or_default();
    let calls: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("a broken record: {error}")))
        .collect::<Result<_>>()?;
    Ok(calls.into_iter().filter(|call| by.is_none_or(|name| call["name"] == name)).collect())
}

/// Whether this process was started as such a plugin; its folder and name.
#[must_use]
pub fn invoked_as() -> Option<(PathBuf, String)> {
    let program = PathBuf::from(std::env::args_os().next()?);
    let name = program.file_name()?.to_str()?.to_owned();
    let named = program.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned);
    // A caller may have set the bare name as the first argument.
    let search = std::env::var("CNI_PATH").unwrap_or_default();
    let folders = named.into_iter().chain(search.split(':').map(PathBuf::from));
    folders.into_iter().find(|folder| answers_of(folder, &name).is_file()).map(|folder| (folder, name))
}

/// Plays the plugin.
#[must_use]
pub fn play(folder: &Path, name: &str) -> ExitCode {
    match answer(folder, name) {
        Ok(code) => code,
        Err(error) => {
            println!("{}", json!({"code": 999, "msg": format!("the suite's own plugin {name}: {error}")}));
            ExitCode::FAILURE
        }
    }
}

fn answer(folder: &Path, name: &str) -> Result<ExitCode> {
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).map_err(|error| error.to_string())?;
    let config: Value = serde_json::from_str(&stdin).unwrap_or(Value::String(stdin));
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let command = env.get("CNI_COMMAND").cloned().unwrap_or_default();
    if command == "VERSION" {
        let versions: Vec<String> = crate::version::RELEASED.iter().map(ToString::to_string).collect();
        println!("{}", json!({"cniVersion": "1.1.0", "supportedVersions": versions}));
        return Ok(ExitCode::SUCCESS);
    }
    let sandbox = env.get("CNI_NETNS").map_or("absent", |path| which(Path::new(path)));
    let record = json!({"name": name, "command": command, "env": env, "config": config,
        "domain": which(Path::new("/proc/self/ns/net")), "sandbox": sandbox});
    let mut calls =
        OpenOptions::new().create(true).append(true).open(folder.join(CALLS)).map_err(fs_error)?;
    calls.write_all(format!("{record}\n").as_bytes()).map_err(fs_error)?;
    let answers = fs::read_to_string(answers_of(folder, name)).map_err(fs_error)?;
    let answers = ["CNI_IFNAME", "CNI_NETNS"].iter().fold(answers, |text, name| {
        text.replace(&format!("${name}"), env.get(*name).map_or("", String::as_str))
    });
    let mut answers: BTreeMap<String, Answer> =
        serde_json::from_str(&answers).map_err(|error| error.to_string())?;
    let answer = answers.remove(&command).unwrap_or_default();
    if let Some(text) = answer.stderr {
        eprintln!("{text}");
    }
    if let Some(mut stdout) = answer.stdout {
        if let Value::Object(object) = &mut stdout {
            object.entry("cniVersion").or_insert_with(|| config["cniVersion"].clone());
        }
        println!("{stdout}");
    } else if command == "ADD" {
        let passed = config.get("prevResult").cloned();
        println!("{}", passed.unwrap_or_else(|| json!({"cniVersion": config["cniVersion"]})));
    }
    Ok(ExitCode::from(u8::try_from(answer.exit).unwrap_or(1)))
}

/// Which network namespace a path leads to. The first process of a case is in that of the host.
fn which(path: &Path) -> &'static str {
    let inside = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    match (inside(path), inside(Path::new("/proc/1/ns/net"))) {
        (Some(found), Some(host)) if found == host => "host",
        (Some(found), Some(host)) if found.0 == host.0 => "other",
        _ => "absent",
    }
}

fn answers_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.answers.json"))
}

fn fs_error(error: std::io::Error) -> String {
    error.to_string()
}

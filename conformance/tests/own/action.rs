//! The steps of `action.yml`, executed as GitHub executes them: by bash, with the inputs put in.

use crate::common::{Plugins, is_root, profile_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

fn action() -> Value {
    let text = fs::read_to_string(format!("{FOLDER}/action.yml")).expect("the action");
    serde_saphyr::from_str(&text).expect("YAML")
}

/// `${{ inputs.NAME }}` replaced, by the default where no value is given.
fn put_in(text: &str, action: &Value, given: &BTreeMap<&str, String>) -> String {
    let Some(name) = text.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}")) else {
        return text.to_owned();
    };
    let input = &action["inputs"][name];
    assert!(input.is_object(), "there is no input {name}");
    let default = input["default"].as_str().map(str::to_owned);
    let value = given.get(name).cloned().or(default);
    value.unwrap_or_else(|| panic!("the input {name} is required"))
}

/// Puts a command into the folder that PATH begins with.
fn command(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Runs all steps; the exit code of the first that fails, 0 otherwise.
fn run(temp: &Path, given: &BTreeMap<&str, String>) -> i32 {
    let action = action();
    let bin = temp.join("path");
    fs::create_dir_all(&bin).expect("a folder");
    // The program is built already; what cargo is asked for is compared with what it would do.
    command(&bin, "cargo", &format!("echo \"$@\" > {}/asked", temp.display()));
    command(&bin, "sudo", "exec \"$@\"");
    let installed = temp.join("conformance/bin");
    fs::create_dir_all(&installed).expect("a folder");
    let _ = symlink(env!("CARGO_BIN_EXE_cni-conformance"), installed.join("cni-conformance"));
    for step in action["runs"]["steps"].as_array().expect("steps") {
        assert_eq!(step["shell"], "bash");
        let mut bash = Command::new("bash");
        bash.args(["-e", "-o", "pipefail", "-c", step["run"].as_str().expect("a line")]);
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            bash.env(name, put_in(value.as_str().expect("text"), &action, given));
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        bash.env("PATH", path).env("GITHUB_ACTION_PATH", FOLDER).env("RUNNER_TEMP", temp);
        let status = bash.stdout(std::process::Stdio::null()).status().expect("bash");
        if !status.success() {
            return status.code().unwrap_or(-1);
        }
    }
    0
}

#[test]
fn the_steps_of_the_action_judge_a_plugin_and_leave_a_report() {
    if !is_root("action") {
        return;
    }
    let temp = tempfile::tempdir().expect("a folder");
    let with = |plugins: &Plugins, arguments: &str| {
        BTreeMap::from([
            ("plugins", plugins.path().display().to_string()),
            ("profile", profile_file().display().to_string()),
            ("arguments", arguments.to_owned()),
        ])
    };
    let right = Plugins::with_fault("");
    assert_eq!(run(temp.path(), &with(&right, "--case 1.1/del/2 --case 1.1/del/3")), 0);
    let asked = fs::read_to_string(temp.path().join("asked")).expect("what cargo was asked for");
    let root = temp.path().join("conformance");
    for words in [
        format!("install --quiet --locked --path {FOLDER} --bin cni-conformance"),
        format!("--root {}", root.display()),
        "--target x86_64".replace("x86_64", std::env::consts::ARCH),
    ] {
        assert!(asked.contains(&words), "{asked} lacks {words}");
    }
    let report = action()["outputs"]["report"]["value"].as_str().expect("a folder").to_owned();
    let report = report.replace("${{ runner.temp }}", &temp.path().display().to_string());
    for file in ["report.txt", "report.tap", "junit.xml", "report.json", "report.yaml"] {
        assert!(Path::new(&report).join(file).is_file(), "there is no {file}");
    }
    assert_eq!(run(temp.path(), &with(&Plugins::with_fault("del-once"), "--case 1.1/del/2")), 1);
}

#[test]
fn the_profile_is_optional() {
    if !is_root("action") {
        return;
    }
    let temp = tempfile::tempdir().expect("a folder");
    let plugins = tempfile::tempdir().expect("a folder");
    // A folder without a plugin that is known: the program says so and could not run.
    assert_eq!(run(temp.path(), &BTreeMap::from([("plugins", plugins.path().display().to_string())])), 2);
}

//! The program: its commands, exit codes and reports, and that nothing of it stays.

use crate::common::{Plugins, is_root, profile_file, program};
use serde_json::Value;
use std::fs;
use std::process::Command;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `run` for the tests' own plugin; further arguments at the end.
fn run(plugins: &Plugins, further: &[&str]) -> std::process::Output {
    let (folder, profile) = (plugins.path().display().to_string(), profile_file().display().to_string());
    program(&[&["run", "--plugins", &folder, "--profile", &profile][..], further].concat())
}

#[test]
fn the_exit_code_is_0_without_failures_1_with_and_2_where_it_could_not_run() {
    if !is_root("program") {
        return;
    }
    let right = Plugins::with_fault("");
    assert_eq!(run(&right, &["--case", "1.1/del/2"]).status.code(), Some(0));
    let must = Plugins::with_fault("del-once");
    assert_eq!(run(&must, &["--case", "1.1/del/2"]).status.code(), Some(1));
    let should = Plugins::with_fault("del-wants-prev-result");
    assert_eq!(run(&should, &["--case", "1.1/del/3"]).status.code(), Some(0));
    assert_eq!(run(&should, &["--case", "1.1/del/3", "--strict"]).status.code(), Some(1));
    assert_eq!(run(&right, &["--case", "7.7/none/1"]).status.code(), Some(2));
    assert_eq!(program(&["run", "--plugins", "/nowhere"]).status.code(), Some(2));
    let absent = run(&right, &["--profile", "bridge"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(text(&absent.stderr).contains("there is no bridge"), "{}", text(&absent.stderr));
}

#[test]
fn a_failure_shows_the_sentence_its_place_the_difference_and_how_to_repeat_it() {
    if !is_root("program") {
        return;
    }
    let output = run(&Plugins::with_fault("wrong-mac"), &["--case", "1.1/add/7"]);
    let shown = text(&output.stdout);
    for part in [
        "The result has the hardware address",
        "SPEC.md#L576",
        "02:00:00:00:00:ff",
        "CNI_COMMAND=ADD",
        "--case 1.1/add/7",
        "expected",
        "actual",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn a_hung_plugin_is_shown_with_what_it_waits_in() {
    if !is_root("program") {
        return;
    }
    let output = run(&Plugins::with_fault("hangs"), &["--case", "1.1/add/1", "--limit", "1"]);
    assert!(text(&output.stdout).contains("it waits in: 1 thread(s)"), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "1.1/add/1 is of the level should");
}

#[test]
fn every_form_of_report_has_the_failure() {
    if !is_root("program") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    run(&Plugins::with_fault("del-once"), &["--case", "1.1/del/2", "--report-dir", &path]);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
    let tap = read("report.tap");
    assert!(tap.starts_with("TAP version 14\n1..1\nnot ok 1 - fixture 1.1/del/2@1.1.0 "), "{tap}");
    assert!(
        tap.contains("\n  ---\n")
            && tap.contains("\n  reference: \"https://")
            && tap.contains("SPEC.md#L276\"\n")
            && tap.ends_with("  ...\n"),
        "{tap}"
    );
    let junit = read("junit.xml");
    assert!(
        junit.contains(r#"<testsuite name="fixture" tests="1" failures="1" errors="0" skipped="0">"#),
        "{junit}"
    );
    let json: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(json["profiles"][0]["entries"][0]["status"], "failed");
    assert_eq!(json["profiles"][0]["entries"][0]["failure"]["call"]["env"]["CNI_COMMAND"], "DEL");
    let yaml: Value = serde_saphyr::from_str(&read("report.yaml")).expect("YAML");
    let profile = &yaml["profiles"][0];
    assert_eq!(profile["implementation"]["organization"], "the suite");
    assert_eq!((&profile["result"], &profile["must"]["failed"]), (&"failure".into(), &1.into()));
    assert_eq!(profile["failures"][0], "1.1/del/2@1.1.0");
    assert_eq!(yaml["mode"], "partial", "one case is a part");
}

#[test]
fn a_feature_that_is_not_claimed_is_listed_and_does_not_fail() {
    if !is_root("program") {
        return;
    }
    let plugins = Plugins::with_fault("no-gc-of-delegate");
    let profile = plugins.path().join("profile.yaml");
    fs::write(&profile, "{type: fixture, kind: interface}").expect("a profile");
    let (folder, profile) = (plugins.path().display().to_string(), profile.display().to_string());
    let output =
        program(&["run", "--plugins", &folder, "--profile", &profile, "--case", "1.1/gc/3", "--strict"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).contains("not claimed: fixture: 1.1/gc/3 does not pass"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn what_the_node_lacks_is_skipped_and_makes_the_report_partial() {
    if !is_root("program") {
        return;
    }
    let plugins = Plugins::with_fault("");
    let profile = plugins.path().join("profile.yaml");
    fs::write(&profile, "{type: fixture, kind: interface, needs: {kernel: [no-such-kind]}}")
        .expect("a profile");
    let (folder, profile) = (plugins.path().display().to_string(), profile.display().to_string());
    let common = ["run", "--plugins", &folder, "--profile", &profile, "--case", "1.1/add/1"];
    let shown = text(&program(&common).stdout);
    assert!(
        shown.contains("1 because the kernel lacks no-such-kind") && shown.contains("partial"),
        "{shown}"
    );
    let yaml = text(&program(&[&common[..], &["--format", "report"]].concat()).stdout);
    assert!(yaml.contains("mode: partial"), "{yaml}");
}

#[test]
fn what_one_run_skipped_another_runs_alone() {
    if !is_root("program") {
        return;
    }
    let plugins = Plugins::with_fault("");
    let at = |name: &str| plugins.path().join(name).display().to_string();
    let run = |needs: &str, cases: &[&str], further: &[&str]| {
        let profile = format!("{{type: fixture, kind: interface, needs: {{kernel: [{needs}]}}}}");
        fs::write(at("profile.yaml"), profile).expect("a profile");
        let (folder, profile) = (plugins.path().display().to_string(), at("profile.yaml"));
        let cases: Vec<&str> = cases.iter().flat_map(|case| ["--case", case]).collect();
        let common = ["run", "--plugins", &folder, "--profile", &profile, "--format", "json"];
        program(&[&common[..], &cases, further].concat())
    };
    let skipped = run("no-such-kind", &["1.1/add/1", "1.1/add/2"], &["--spec", "0.4.0", "--spec", "1.0.0"]);
    assert_eq!(skipped.status.code(), Some(0));
    fs::write(at("report.json"), &skipped.stdout).expect("a report");
    let output = run("veth", &[], &["--skipped-in", &at("report.json")]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let entries = report["profiles"][0]["entries"].as_array().expect("entries");
    let all: Vec<String> = entries
        .iter()
        .map(|entry| format!("{}@{} {}", entry["id"], entry["version"], entry["status"]))
        .collect();
    assert_eq!(
        all.join(", ").replace('"', ""),
        "1.1/add/1@1.0.0 passed, 1.1/add/2@0.4.0 passed, 1.1/add/2@1.0.0 passed"
    );
    let none = run("veth", &[], &["--skipped-in", "/nowhere"]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
}

#[test]
fn nothing_stays_behind() {
    if !is_root("program") {
        return;
    }
    let machine = || {
        let links = Command::new("ip").args(["-o", "link"]).output().expect("ip").stdout;
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let names = fs::read_dir("/run/netns").map(Iterator::count).unwrap_or_default();
        (text(&links), mounts, names, std::path::Path::new("/var/lib/left").exists())
    };
    let before = machine();
    for fault in ["leaves-a-process", "leaves-a-link", "leaves-a-file", "hangs", "crashes"] {
        let plugins = Plugins::with_fault(fault);
        run(&plugins, &["--case", "1.1/add/1", "--limit", "1"]);
        assert_eq!(left_processes(), Vec::<String>::new(), "{fault}");
    }
    assert_eq!(machine(), before);
}

/// The command lines of processes that the plugin with the fault `leaves-a-process` started.
fn left_processes() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines.map(|line| text(&line)).filter(|line| line.contains("3599")).collect()
}

#[test]
fn list_and_explain_show_the_cases() {
    let listed = text(&program(&["list", "--case", "1.1/del"]).stdout);
    assert!(
        listed.lines().count() > 10 && listed.lines().all(|line| line.starts_with("1.1/del/")),
        "{listed}"
    );
    let explained = text(&program(&["explain", "1.1/del/12"]).stdout);
    for part in ["SPEC.md#L274", "given", "when", "then", "ADD for a", "claims `ipam`"] {
        assert!(explained.contains(part), "{part:?} is not in\n{explained}");
    }
    assert_eq!(program(&["explain", "9/none/1"]).status.code(), Some(2));
}

#[test]
fn a_dry_run_prints_lines_for_a_shell() {
    if !is_root("program") {
        return;
    }
    let plugins = Plugins::with_fault("");
    let lines = text(&run(&plugins, &["--case", "1.1/del/1", "--spec", "1.0.0", "--dry-run"]).stdout);
    assert!(lines.contains("ip netns add a\n"), "{lines}");
    assert!(lines.contains("CNI_COMMAND=ADD") && lines.contains("| tee a-eth0.json"), "{lines}");
    assert!(lines.contains(r#""prevResult":'"$(cat a-eth0.json)"'"#), "{lines}");
    // What a person would type works: here it is typed.
    let script = format!("set -e; mkdir -p /run/netns; cd \"$(mktemp -d)\"\n{lines}");
    let outcome = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &format!("mount -t tmpfs tmpfs /run\n{script}")])
        .output()
        .expect("unshare");
    let stderr = text(&outcome.stderr);
    // The last look is for a link that is gone: ip says so.
    assert!(stderr.contains("\"eth0\" does not exist") || outcome.status.success(), "{stderr}\n{lines}");
}

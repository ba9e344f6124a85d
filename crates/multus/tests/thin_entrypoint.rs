//! The program against a folder that plays the node's files: no root, no network.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A line that does not come within this time counts as missing.
const HANGING: Duration = Duration::from_secs(30);

const MASTER: &str = r#"{"cniVersion":"0.4.0","name":"pods","type":"bridge"}"#;

/// A node's files, and a service account as the kubelet lays it out: links to a folder behind a
/// link, which is replaced as a whole.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "net.d", "account", "image"] {
            fs::create_dir(node.path(folder)).unwrap();
        }
        fs::write(node.path("image/multus"), "the multus binary").unwrap();
        fs::set_permissions(node.path("image/multus"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(node.path("net.d/10-pods.conf"), MASTER).unwrap();
        node.new_token("first");
        for file in ["token", "ca.crt"] {
            symlink(format!("..data/{file}"), node.path("account").join(file)).unwrap();
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
    }

    fn config(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Puts another token in place, as the kubelet does before the old one expires.
    fn new_token(&self, token: &str) {
        let account = self.path("account");
        let version = account.join(format!("..{token}"));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("token"), token).unwrap();
        fs::write(version.join("ca.crt"), "foobar").unwrap();
        symlink(&version, account.join("..data_tmp")).unwrap();
        fs::rename(account.join("..data_tmp"), account.join("..data")).unwrap();
    }

    /// Replaces a file of the node as a careful program does.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("image/new"), text).unwrap();
        fs::rename(self.path("image/new"), self.path(name)).unwrap();
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thin_entrypoint"));
        for (flag, folder) in [
            ("cni-bin-dir", "bin"),
            ("cni-conf-dir", "net.d"),
            ("multus-autoconfig-dir", "net.d"),
            ("multus-cni-conf-dir", "multus.net.d"),
            ("multus-bin-file", "image/multus"),
            ("service-account-dir", "account"),
        ] {
            command.arg(format!("--{flag}={}", self.path(folder).display()));
        }
        command
            .args(flags)
            .env_clear()
            .envs([("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, flags: &[&str]) -> Running {
        Running::of(self.command(flags).spawn().unwrap())
    }

    /// The exit code and standard error of a run that must fail.
    fn fails(&self, flags: &[&str]) -> (Option<i32>, String) {
        let output = self.command(flags).output().unwrap();
        assert!(!output.status.success());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

/// The program while it runs; both its outputs as one sequence of lines.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn of(mut child: Child) -> Self {
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for a line that contains `text`.
    fn prints(&self, text: &str) -> &Self {
        loop {
            match self.lines.recv_timeout(HANGING) {
                Ok(line) if line.contains(text) => return self,
                Ok(_) => {}
                Err(err) => panic!("never prints {text:?}: {err}"),
            }
        }
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let ended = self.child.wait().unwrap();
        // Its end closes both outputs.
        while self.lines.recv_timeout(HANGING).is_ok() {}
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It still runs where a test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn multus_its_kubeconfig_and_its_configuration_are_put_on_the_node() {
    let node = Node::new();
    let running = node.start(&[]);
    running.prints("00-multus.conf");
    assert_eq!(node.read("bin/multus"), "the multus binary");
    assert_eq!(fs::metadata(node.path("bin/multus")).unwrap().mode() & 0o7777, 0o755);
    let kubeconfig = node.read("net.d/multus.d/multus.kubeconfig");
    for part in
        ["server: https://10.96.0.1:443\n", "token: \"first\"\n", "certificate-authority-data: Zm9vYmFy\n"]
    {
        assert!(kubeconfig.contains(part), "{kubeconfig}");
    }
    let mode = fs::metadata(node.path("net.d/multus.d/multus.kubeconfig")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(node.path("multus.net.d").is_dir());
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "pods");
    assert!(running.stop(Signal::SIGTERM).success());
    assert!(node.path("net.d/00-multus.conf").exists(), "it stays without --cleanup-config-on-exit");
}

#[test]
fn the_configuration_is_removed_on_exit_with_the_flag() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let node = Node::new();
        let running = node.start(&["--cleanup-config-on-exit"]);
        running.prints("following");
        assert!(running.stop(signal).success());
        assert!(!node.path("net.d/00-multus.conf").exists());
        assert!(node.path("net.d/10-pods.conf").exists());
        assert!(node.path("bin/multus").exists());
    }
}

#[test]
fn a_new_token_gives_a_new_kubeconfig() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    for token in ["second", "third"] {
        node.new_token(token);
        running.prints("multus.kubeconfig");
        assert!(node.read("net.d/multus.d/multus.kubeconfig").contains(token));
    }
}

#[test]
fn a_changed_default_network_gives_a_new_configuration_of_its_version() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    node.replace("net.d/10-pods.conf", &MASTER.replace("0.4.0", "1.0.0"));
    running.prints("00-multus.conflist");
    assert_eq!(node.config("net.d/00-multus.conflist")["plugins"][0]["delegates"][0]["cniVersion"], "1.0.0");
    // A second round, so that the first is complete.
    node.new_token("second");
    running.prints("multus.kubeconfig");
    assert!(!node.path("net.d/00-multus.conf").exists(), "the older form would be first by its name");
}

#[test]
fn a_broken_default_network_leaves_the_last_configuration() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    let before = node.read("net.d/00-multus.conf");
    node.replace("net.d/10-pods.conf", r#"{"cniVersion":"#);
    running.prints("the file made before stays");
    assert_eq!(node.read("net.d/00-multus.conf"), before);
    node.replace("net.d/10-pods.conf", &MASTER.replace("pods", "mended"));
    running.prints("wrote");
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "mended");
}

#[test]
fn a_default_network_that_is_gone_is_waited_for() {
    let node = Node::new();
    fs::write(node.path("net.d/20-other.conf"), MASTER.replace("pods", "other")).unwrap();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    fs::remove_file(node.path("net.d/10-pods.conf")).unwrap();
    running.prints("is gone");
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "pods");
    node.replace("net.d/10-pods.conf", &MASTER.replace("pods", "again"));
    running.prints("is back").prints("wrote");
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "again");
}

#[test]
fn a_file_that_becomes_the_first_is_the_default_network() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    node.replace("net.d/05-first.conf", &MASTER.replace("pods", "first"));
    running.prints("05-first.conf");
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "first");
}

#[test]
fn a_linked_default_network_is_followed_to_its_target() {
    let node = Node::new();
    fs::create_dir(node.path("provider")).unwrap();
    fs::rename(node.path("net.d/10-pods.conf"), node.path("provider/pods")).unwrap();
    symlink(node.path("provider/pods"), node.path("net.d/10-pods.conf")).unwrap();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    node.replace("provider/pods", &MASTER.replace("pods", "changed"));
    running.prints("wrote");
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "changed");
}

#[test]
fn a_configuration_deleted_from_outside_is_not_made_again() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit"]);
    running.prints("following");
    fs::remove_file(node.path("net.d/00-multus.conf")).unwrap();
    // The second round starts after the first, which saw the deletion, has ended.
    for token in ["second", "third"] {
        node.new_token(token);
        running.prints("multus.kubeconfig");
    }
    assert!(!node.path("net.d/00-multus.conf").exists());
    assert!(running.stop(Signal::SIGTERM).success());
}

#[test]
fn changes_are_not_followed_with_skip_config_watch() {
    let node = Node::new();
    let running = node.start(&["--cleanup-config-on-exit", "--skip-config-watch"]);
    running.prints("00-multus.conf");
    node.replace("net.d/10-pods.conf", &MASTER.replace("pods", "changed"));
    assert!(running.stop(Signal::SIGTERM).success());
    assert!(!node.path("net.d/00-multus.conf").exists());
}

#[test]
fn the_default_network_is_renamed_with_the_flag_and_a_restart_finds_it() {
    let node = Node::new();
    for _ in 0..2 {
        let running = node.start(&["--rename-conf-file"]);
        running.prints("00-multus.conf");
        assert!(running.stop(Signal::SIGTERM).success());
        assert!(!node.path("net.d/10-pods.conf").exists());
        assert_eq!(node.read("net.d/10-pods.conf.old"), MASTER);
        fs::remove_file(node.path("net.d/00-multus.conf")).unwrap();
    }
}

#[test]
fn a_renamed_default_network_that_comes_back_is_renamed_again() {
    let node = Node::new();
    let running = node.start(&["--rename-conf-file", "--cleanup-config-on-exit"]);
    running.prints("renamed").prints("following");
    node.replace("net.d/10-pods.conf", &MASTER.replace("pods", "newer"));
    running.prints("renamed");
    assert!(node.read("net.d/10-pods.conf.old").contains("newer"));
    assert_eq!(node.config("net.d/00-multus.conf")["delegates"][0]["name"], "newer");
}

#[test]
fn a_given_configuration_is_copied_and_removed_on_exit() {
    let node = Node::new();
    fs::write(node.path("image/70-multus.conf"), "as it is").unwrap();
    let given = format!("--multus-conf-file={}", node.path("image/70-multus.conf").display());
    let running = node.start(&[&given, "--cleanup-config-on-exit"]);
    running.prints("copied");
    assert_eq!(node.read("net.d/70-multus.conf"), "as it is");
    assert!(node.path("net.d/multus.d/multus.kubeconfig").exists());
    assert!(!node.path("net.d/00-multus.conf").exists());
    assert!(running.stop(Signal::SIGTERM).success());
    assert!(!node.path("net.d/70-multus.conf").exists());
}

#[test]
fn the_binary_is_not_copied_with_the_flag() {
    let node = Node::new();
    let running = node.start(&["--skip-multus-binary-copy", "--multus-bin-file=/missing"]);
    running.prints("00-multus.conf");
    assert!(!node.path("bin/multus").exists());
}

#[test]
fn the_error_names_what_is_missing_and_no_file_is_made() {
    let node = Node::new();
    for missing in ["cni-conf-dir", "cni-bin-dir", "multus-bin-file", "multus-conf-file"] {
        let (code, stderr) = node.fails(&[&format!("--{missing}=/missing")]);
        assert_eq!(code, Some(1));
        assert!(stderr.contains(missing) && stderr.contains("/missing"), "{stderr}");
        assert!(!node.path("bin/multus").exists());
    }
    let (_, stderr) = node.fails(&["--multus-master-cni-file-name=missing.conf"]);
    assert!(stderr.contains("missing.conf"), "{stderr}");
    let (_, stderr) = node.fails(&["--service-account-dir=/missing"]);
    assert!(stderr.contains("/missing/token"), "{stderr}");
    assert!(!node.path("net.d/00-multus.conf").exists());
}

#[test]
fn the_error_without_an_api_server_names_the_variables() {
    let node = Node::new();
    let output = node.command(&[]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("KUBERNETES_SERVICE_HOST"), "{stderr}");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_the_help_with_0() {
    let node = Node::new();
    let (code, stderr) = node.fails(&["--nonsense"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--nonsense") && stderr.contains("--cni-bin-dir"), "{stderr}");
    let mut child = node.command(&["--help"]).spawn().unwrap();
    let mut page = String::new();
    child.stdout.take().unwrap().read_to_string(&mut page).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(page.contains("--cleanup-config-on-exit"));
}

#[test]
fn the_token_is_never_printed() {
    let node = Node::new();
    let output = {
        let mut child = node.command(&["--cleanup-config-on-exit"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr: Vec<String> = Vec::new();
        while !stderr.last().is_some_and(|line| line.contains("following")) {
            stderr.push(lines.next().unwrap().unwrap());
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        stderr.extend(lines.map_while(Result::ok));
        stderr.push(String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap());
        stderr.join("\n")
    };
    assert!(!output.contains("first"), "{output}");
}

//! Real containers: containerd's `ctr` and podman call our plugins, and cnictl sees and mends what they
//! attached.

use std::process::{Child, Command, Stdio};

use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Host, Plugins, eventually};
use serde_json::{Value, json};

/// Not repeated in the machine: the runtimes are what is tested there, not the kernel.
const REASON: &str = "the calls of a runtime are the same on every kernel";

const PODMAN: &str = "CONTAINERS_CONF=/run/containers.conf CONTAINERS_STORAGE_CONF=/run/storage.conf podman";

/// What podman needs where cgroups are hybrid and limits of the machine are low.
const LIMITS: &str = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024";

/// A host with our plugins where runtimes look for them, a network, and the files of an image.
fn host(plugins: Plugins, subnet: &str) -> Host {
    let host = Host::new(plugins);
    let list = json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [
            { "type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
              "ipam": { "type": "host-local", "subnet": format!("{subnet}.0/24"), "routes": [{ "dst": "0.0.0.0/0" }] } },
            { "type": "tuning", "mtu": 1400 },
        ],
    });
    host.configure("10-net.conflist", list.to_string());
    let plugins = plugins.dir().display().to_string();
    // The fixture's own /sys has no cgroups; below it is the machine's.
    host.sh(&format!(
        "umount /sys; mount -t tmpfs none /opt; mount -t tmpfs none /dev/shm; mkdir -p /opt/cni/bin;
         mount --bind {plugins} /opt/cni/bin; mount --bind /run/cni/net.d /etc/cni/net.d;
         mkdir -p /run/image/bin; cd /run/image; mkdir proc sys dev etc tmp; cp /bin/busybox bin/;
         for name in sh sleep ip ping; do ln -s busybox bin/$name; done"
    ));
    host
}

/// containerd, and the containers that were made by its `ctr`; all end with it.
struct Containerd<'h> {
    host: &'h Host,
    process: Child,
}

impl<'h> Containerd<'h> {
    fn start(host: &'h Host) -> Containerd<'h> {
        let config = "version = 2\nroot = \"/run/ctr/root\"\nstate = \"/run/ctr/state\"\n\
                      disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"/run/ctr/socket\"\n";
        std::fs::create_dir_all(host.path("/run/ctr")).expect("a folder");
        std::fs::write(host.path("/run/ctr/config.toml"), config).expect("a configuration");
        let process = host.enter(|| {
            let mut command = Command::new("containerd");
            command.args(["--config", "/run/ctr/config.toml"]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("containerd")
        });
        let containerd = Containerd { host, process };
        assert!(eventually(|| containerd.try_ctr("version").is_ok()), "containerd does not answer");
        containerd
    }

    fn try_ctr(&self, arguments: &str) -> Result<String, String> {
        self.host.try_sh(&format!("ctr -a /run/ctr/socket {arguments}"))
    }

    fn ctr(&self, arguments: &str) -> String {
        self.try_ctr(arguments).unwrap_or_else(|err| panic!("{err}"))
    }

    /// Ends a container's process and takes the container away.
    fn remove(&self, id: &str) {
        let _ = self.try_ctr(&format!("task kill --signal KILL {id}"));
        eventually(|| self.try_ctr("task ls").is_ok_and(|list| !list.contains("RUNNING")));
        let _ = self.try_ctr(&format!("task rm {id}"));
        let _ = self.try_ctr(&format!("container rm {id}"));
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let ids = self.try_ctr("container ls --quiet").unwrap_or_default();
        ids.split_whitespace().for_each(|id| self.remove(id));
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Podman's containers, which end with it.
struct Podman<'h>(&'h Host);

impl<'h> Podman<'h> {
    fn new(host: &'h Host) -> Podman<'h> {
        let conf = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
                    [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/opt/cni/bin\"]\n\
                    network_config_dir = \"/etc/cni/net.d\"\n";
        let storage =
            "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/podman/run\"\ngraphroot = \"/run/podman/graph\"\n";
        std::fs::write(host.path("/run/containers.conf"), conf).expect("a configuration");
        std::fs::write(host.path("/run/storage.conf"), storage).expect("a configuration");
        host.sh("tar -C /run/image -cf /run/image.tar .");
        let podman = Podman(host);
        podman.run("import /run/image.tar busybox:1");
        podman
    }

    fn run(&self, arguments: &str) -> String {
        self.0.sh(&format!("{PODMAN} {arguments}"))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_sh(&format!("{PODMAN} rm --all --force --time 0"));
    }
}

/// The one attachment that cnictl lists.
fn attached(host: &Host) -> Value {
    let listed = host.cnictl_json("list");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    listed[0].clone()
}

/// Breaks the one attachment by hand in several ways, and has doctor mend it each time.
fn breaks_and_mends(host: &Host, address: &str) {
    let netns = attached(host)["netns"].as_str().expect("a namespace").to_owned();
    let inside = format!("nsenter --net={netns} ip");
    let mac = || host.sh(&format!("{inside} -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'"));
    let before = mac();
    host.sh("printf 'gone\\r\\neth0' > /var/lib/cni/networks/net/$(ls /var/lib/cni/networks/net | grep ^10 | head -1 | sed 's/[0-9]*$/99/')");
    for (how, kind) in [
        (format!("{inside} link del eth0"), "broken"),
        (format!("{inside} addr flush dev eth0"), "broken"),
        ("nft flush chain inet cni_plugins_masquerade masq_checks".to_owned(), "broken"),
    ] {
        host.sh(&how);
        let found = host.cnictl_json("doctor");
        assert!(
            found.as_array().is_some_and(|all| all.iter().any(|one| one["kind"] == kind)),
            "{how}: {found}"
        );
        let repaired = host.cnictl("doctor --repair --grace 0");
        assert!(repaired.ok(), "{how}: {repaired}");
        assert_eq!(host.cnictl_json("doctor"), json!([]), "{how}");
        assert_eq!(mac(), before, "{how}");
        host.sh(&format!("ping -n -c 1 -W 5 {address}"));
    }
    assert!(!host.sh("ls /var/lib/cni/networks/net").contains(".99"), "the orphaned reservation remains");
}

/// Nothing remains of any attachment.
fn is_clean(host: &Host) {
    assert_eq!(host.cnictl_json("list"), json!([]));
    assert_eq!(host.sh("ls /var/lib/cni/networks/net | grep ^10 || true"), "");
    // The kernel removes a namespace, and its links, some time after its last process.
    assert!(eventually(|| host.sh("ip -o link show type veth").is_empty()), "a veth pair remains");
    assert!(!host.sh("nft list ruleset").contains("net: net"));
    assert_eq!(host.cnictl_json("doctor"), json!([]));
}

fn containerd(plugins: Plugins, subnet: &str) {
    let host = host(plugins, subnet);
    let containerd = Containerd::start(&host);
    // The ID is part of the path of a cgroup, which the machine shares.
    let id = format!("oxcni-{}-{}", std::process::id(), subnet.replace('.', "-"));
    let run = |options: &str, command: &str| {
        containerd.ctr(&format!("run {options} --cni --rootfs /run/image {id} {command}"))
    };
    // In the foreground, ctr calls DEL when the process has ended, without a namespace.
    let seen = run("--rm", &format!("/bin/sh -c 'ip -4 addr show eth0; ping -c 1 -W 5 {subnet}.1'"));
    assert!(seen.contains(&format!("{subnet}.2/24")) && seen.contains("1 packets received"), "{seen}");
    is_clean(&host);

    run("--detach", "/bin/sleep 600");
    let address = format!("{subnet}.3");
    let entry = attached(&host);
    assert_eq!(
        (&entry["addresses"], &entry["namespace"]),
        (&json!([format!("{address}/24")]), &json!("living"))
    );
    assert_eq!(host.cnictl_json("doctor"), json!([]));
    host.sh(&format!("ping -n -c 1 -W 5 {address}"));
    breaks_and_mends(&host, &address);
    // Detached, ctr never calls DEL.
    containerd.remove(&id);
    assert_eq!(attached(&host)["namespace"], "gone");
    host.cnictl("gc").succeeds();
    is_clean(&host);
}

fn podman(plugins: Plugins, subnet: &str) {
    let host = host(plugins, subnet);
    let podman = Podman::new(&host);
    podman.run(&format!("run --detach --name one --network net {LIMITS} busybox:1 /bin/sleep 600"));
    let address = format!("{subnet}.2");
    assert_eq!(attached(&host)["addresses"], json!([format!("{address}/24")]));
    assert_eq!(host.cnictl_json("doctor"), json!([]));
    let seen = podman.run(&format!("exec one /bin/ping -c 1 -W 5 {subnet}.1"));
    assert!(seen.contains("1 packets received"), "{seen}");
    breaks_and_mends(&host, &address);
    podman.run("rm --force --time 0 one");
    is_clean(&host);
}

#[test]
fn containers_of_containerd_are_attached_listed_mended_and_detached() {
    let test = "containers_of_containerd_are_attached_listed_mended_and_detached";
    if requirement::met_on_any_kernel(test, &[Feature::Containerd], REASON) {
        containerd(Plugins::Multicall, "10.212.1");
        containerd(Plugins::Separate, "10.212.2");
    }
}

#[test]
fn containers_of_podman_are_attached_listed_mended_and_detached() {
    let test = "containers_of_podman_are_attached_listed_mended_and_detached";
    if requirement::met_on_any_kernel(test, &[Feature::Podman], REASON) {
        podman(Plugins::Multicall, "10.212.3");
        podman(Plugins::Separate, "10.212.4");
    }
}

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::{Host, Plugins};

/// Something that a kernel or a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// VLAN filtering of the bridge (`CONFIG_BRIDGE_VLAN_FILTERING`).
    BridgeVlan,
    /// Links of kind `vlan` (`CONFIG_VLAN_8021Q`).
    Vlan,
    /// The nf_tables family `bridge` (`CONFIG_NF_TABLES_BRIDGE`).
    NftBridge,
    /// Links of kind `macvlan`.
    Macvlan,
    /// Links of kind `ipvlan`.
    Ipvlan,
    /// Links of kind `dummy`.
    Dummy,
    /// Links of kind `vrf`.
    Vrf,
    /// File systems of FUSE.
    Fuse,
    /// Extended attributes `user.*` on tmpfs (Linux 6.6), or a loop device to put ext4 on.
    UserXattr,
    /// `iptables` and `ip6tables` with a nat table.
    Iptables,
    /// `iptables-legacy` with a nat table.
    IptablesLegacy,
    /// The Go plugins of Debian's package `containernetworking-plugins`.
    GoPlugins,
    /// `kubectl` of Debian's package `kubernetes-client`.
    Kubectl,
    /// containerd with `ctr` and runc, busybox-static to run in containers, and cgroups.
    Containerd,
    /// podman with its CNI backend and runc, and the same.
    Podman,
    /// A machine whose init is systemd, and on which a test may install what it likes: the virtual one.
    Systemd,
}

impl Feature {
    /// A shell line that succeeds in a scratch host where the feature is there.
    fn probe(self) -> &'static str {
        match self {
            Self::BridgeVlan => {
                "ip link add name p type bridge vlan_filtering 1 && bridge vlan add dev p vid 5 self"
            }
            Self::Vlan => {
                "ip link add name p type veth peer name q && ip link add link p name p.5 type vlan id 5"
            }
            Self::NftBridge => {
                "nft add table bridge p && nft 'add chain bridge p c { type filter hook prerouting priority -300; }' \
                 && nft add rule bridge p c iifname eth0 ether saddr != 02:00:00:00:00:01 drop"
            }
            Self::Macvlan => {
                "ip link add name p type veth peer name q && ip link add link p name m type macvlan mode bridge"
            }
            Self::Ipvlan => {
                "ip link add name p type veth peer name q && ip link add link p name i type ipvlan mode l2"
            }
            Self::Dummy => "ip link add name p type dummy",
            Self::Vrf => "ip link add name p type vrf table 7",
            Self::Fuse => "test -c /dev/fuse && : <>/dev/fuse",
            // Tried in `is_there`, with the system call itself.
            Self::UserXattr => "true",
            Self::Systemd => "test \"$(cat /proc/1/comm)\" = systemd && umount /run && test -d /run/oxcni-vm",
            Self::Iptables => "iptables -t nat -S && ip6tables -t nat -S",
            Self::IptablesLegacy => "iptables-legacy -t nat -S",
            Self::GoPlugins => "test -x /usr/lib/cni/bridge",
            Self::Kubectl => "kubectl version --client",
            // The fixture's own /sys has no cgroups; below it is the machine's.
            Self::Containerd => {
                "command -v ctr && command -v runc && containerd --version && test -x /bin/busybox \
                 && test -d /etc/cni/net.d && umount /sys && grep -q ' /sys/fs/cgroup' /proc/mounts"
            }
            Self::Podman => {
                "command -v runc && podman --version && test -x /bin/busybox \
                 && test -d /etc/cni/net.d && umount /sys && grep -q ' /sys/fs/cgroup' /proc/mounts"
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BridgeVlan => "bridge VLAN filtering in the kernel",
            Self::Vlan => "802.1Q links in the kernel",
            Self::NftBridge => "the nf_tables bridge family in the kernel",
            Self::Macvlan => "macvlan in the kernel",
            Self::Ipvlan => "ipvlan in the kernel",
            Self::Dummy => "dummy links in the kernel",
            Self::Vrf => "VRF in the kernel",
            Self::Fuse => "FUSE in the kernel",
            Self::UserXattr => "user extended attributes on tmpfs (Linux 6.6) or ext4 on a loop device",
            Self::Iptables => "iptables with a nat table",
            Self::IptablesLegacy => "iptables-legacy with a nat table",
            Self::GoPlugins => "the Go plugins in /usr/lib/cni (containernetworking-plugins)",
            Self::Kubectl => "kubectl (kubernetes-client)",
            Self::Containerd => "containerd, runc, busybox-static, /etc/cni/net.d and cgroups",
            Self::Podman => "podman, runc, busybox-static, /etc/cni/net.d and cgroups",
            Self::Systemd => "systemd as init, of a virtual machine",
        }
    }

    /// Whether this machine has it; probed once per process, in a scratch host.
    pub fn is_there(self) -> bool {
        static KNOWN: Mutex<Vec<(Feature, bool)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, there)) = known.iter().find(|(feature, _)| *feature == self) {
            return *there;
        }
        let scratch = Host::new(Plugins::Multicall);
        let there = match self {
            Self::UserXattr => scratch.mount_xattr_data().is_ok(),
            _ => scratch.try_sh(self.probe()).is_ok(),
        };
        known.push((self, there));
        there
    }
}

/// True where the test can run: as root, on a machine with all `features`.
///
/// Otherwise prints `SKIP <test>: <reason>`, appends `<test>: <reason>` to the file that
/// `OXCNI_SKIP_LOG` names, and with `OXCNI_NO_SKIP=1` panics in place of both.
pub fn met(test: &str, features: &[Feature]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return skip(test, "needs root");
    }
    match features.iter().find(|feature| !feature.is_there()) {
        Some(missing) => skip(test, &format!("needs {}", missing.name())),
        None => true,
    }
}

/// As [`met`], for a test whose result is the same on every kernel, for this `reason`.
///
/// Such a test runs on the kernel at hand. In the virtual machine (`OXCNI_EMULATED=1`), where a
/// process costs forty times as much, it is left out: `<test>: <reason>` is appended to the file
/// that `OXCNI_LEFT_OUT_LOG` names. `cargo xtask test` fails where a test ran in neither place.
pub fn met_on_any_kernel(test: &str, features: &[Feature], reason: &str) -> bool {
    if !crate::budget::emulated() {
        return met(test, features);
    }
    println!("LEFT OUT {test}: {reason}");
    log("OXCNI_LEFT_OUT_LOG", test, reason);
    false
}

fn skip(test: &str, reason: &str) -> bool {
    let forbidden = std::env::var_os("OXCNI_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!forbidden, "SKIP {test}: {reason} (and OXCNI_NO_SKIP=1 makes that a failure)");
    println!("SKIP {test}: {reason}");
    log("OXCNI_SKIP_LOG", test, reason);
    false
}

fn log(variable: &str, test: &str, reason: &str) {
    if let Some(file) = std::env::var_os(variable) {
        append_line(Path::new(&file), &format!("{test}: {reason}\n"));
    }
}

/// One write in append mode, so that lines of tests running side by side do not mix.
fn append_line(file: &Path, line: &str) {
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(err) = appended {
        panic!("can't append to {}: {err}", file.display());
    }
}

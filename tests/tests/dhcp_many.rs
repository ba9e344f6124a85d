//! Many leases at once: a size that fits beside other tests, or with `OXCNI_DHCP_FULL=1` 200 leases of
//! 4 s for a minute.

use std::thread::sleep;
use std::time::Duration;

use oxcni_tests::both_flavours;
use oxcni_tests::dhcp::{Kea, Process};
use serde_json::json;

/// How many leases are kept, after how many seconds they are renewed and over, and for how long all of it goes on.
struct Size {
    containers: usize,
    renew: u64,
    lease: u64,
    rounds: u32,
}

fn size() -> Size {
    if std::env::var_os("OXCNI_DHCP_FULL").is_some() {
        Size { containers: 200, renew: 2, lease: 4, rounds: 10 }
    } else {
        Size { containers: 40, renew: 6, lease: 24, rounds: 3 }
    }
}

/// What the daemon may take: KiB of its own memory for each lease and beside them, and files.
const KIB_A_LEASE: u64 = 16;
const KIB_BESIDE: u64 = 4096;
const FILES: usize = 64;

both_flavours! {
    on_any_kernel: "what is measured is the daemon";
    fn many_short_leases_are_kept(host) {
        let Size { containers, renew, lease, rounds } = size();
        host.sh("ip link add name br0 type bridge; ip link set br0 up");
        let server = host.veth_pair("port", "server", &["10.1.2.1/24"]);
        host.sh("ip link set port master br0");
        let kea = Kea::start(&server, json!({
            "valid-lifetime": lease, "renew-timer": renew, "rebind-timer": lease * 3 / 4, "authoritative": true,
            "subnet4": [{ "id": 1, "subnet": "10.1.2.0/24", "pools": [{ "pool": "10.1.2.10-10.1.2.250" }] }],
        }));
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" },
        }));
        let pods: Vec<_> = (0..containers).map(|_| host.container()).collect();
        std::thread::scope(|scope| {
            for some in pods.chunks(containers / 8) {
                let net = &net;
                scope.spawn(move || {
                    for pod in some {
                        net.add(pod).succeeds();
                    }
                });
            }
        });
        sleep(Duration::from_secs(10));
        let before = memory(&daemon);
        for _ in 0..rounds {
            sleep(Duration::from_secs(5));
            assert!(daemon.open_files() < FILES, "{} files", daemon.open_files());
        }
        let after = memory(&daemon);
        println!("{before} KiB, then {after} KiB for {containers} leases");
        assert!(after < KIB_BESIDE + KIB_A_LEASE * containers as u64, "{after} KiB");
        assert!(after < before + before / 8, "grows: {before} KiB, then {after} KiB");
        for lost in ["event=expired", "event=refused-by-server", "event=given-up"] {
            assert!(!daemon.log().contains(lost), "{lost}");
        }
        for pod in &pods {
            assert!(pod.sh("ip -4 -o addr show dev eth0").contains("10.1.2."), "{} lost its address", pod.id());
        }
        let renewals = daemon.log().matches("event=lease ").count();
        let least = containers + containers * (10 + rounds as usize * 5) / (2 * renew) as usize;
        assert!(renewals >= least, "{renewals} leases and renewals, not {least}");
        drop(kea);
    }
}

/// KiB of memory that are the process's own.
fn memory(daemon: &Process) -> u64 {
    daemon.status("RssAnon")
}

//! The dhcp daemon under systemd: readiness, watchdog, a socket that is handed over.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use oxcni_tests::{Host, both_flavours};
use serde_json::json;

/// A socket that plays systemd, in the host's `/run`.
fn manager(host: &Host) -> UnixDatagram {
    let socket = host.enter(|| UnixDatagram::bind("/run/notify").expect("a socket"));
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    socket
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a notification");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

both_flavours! {
    on_any_kernel: "no kernel decides it";
    fn readiness_the_watchdog_and_the_end_are_reported(host) {
        let socket = manager(&host);
        let daemon = host.dhcp_daemon_with(&[], &[("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", "100000")]);
        let mut states: Vec<String> = (0..4).map(|_| next(&socket)).collect();
        states.sort();
        assert_eq!(states, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
        daemon.stop();
        while next(&socket) != "STOPPING=1" {}
    }

    fn lines_for_the_journal_begin_with_their_priority(host) {
        let log = host.path("/run/dhcp-daemon.log");
        std::fs::write(&log, "").expect("a log file");
        let meta = std::fs::metadata(&log).expect("its inode");
        let journal = format!("{}:{}", meta.dev(), meta.ino());
        host.sh("mkdir -p /run/cni/dhcp; echo x > /run/cni/dhcp/cut.json");
        let daemon = host.dhcp_daemon_with(&[], &[("JOURNAL_STREAM", &journal)]);
        let log = daemon.log();
        for line in ["<6>level=info event=started", "<4>level=warning event=lease-file-dropped"] {
            assert!(log.lines().any(|it| it.starts_with(line)), "{log}");
        }
        daemon.stop();
        // Of another process' journal nothing follows for a file.
        let daemon = host.dhcp_daemon_with(&[], &[("JOURNAL_STREAM", "1:1")]);
        assert!(daemon.log().lines().last().is_some_and(|line| line.starts_with("level=info event=started")));
    }

    fn a_socket_is_handed_over(host) {
        let daemon = host.dhcp_daemon_handed("/run/handed.sock", &[]);
        let net = |path: &str| {
            host.network(json!({
                "cniVersion": "1.1.0", "name": "net", "type": "dhcp", "ipam": { "type": "dhcp", "daemonSocketPath": path },
            }))
        };
        net("/run/handed.sock").status().succeeds();
        net("/run/cni/dhcp.sock").status().succeeds();
        assert!(!host.path("/run/oxcni/dhcp.sock").exists());
        daemon.stop();
        assert!(host.path("/run/handed.sock").exists(), "it is systemd's");
    }

    fn a_socket_that_another_daemon_has_taken_over_stays(host) {
        let daemon = host.dhcp_daemon(&[]);
        host.sh("rm /run/cni/dhcp.sock");
        let _other = host.enter(|| std::os::unix::net::UnixListener::bind("/run/cni/dhcp.sock").expect("a socket"));
        daemon.stop();
        assert!(host.path("/run/cni/dhcp.sock").exists());
        assert!(!host.path("/run/oxcni/dhcp.sock").exists());
        // A living daemon is left alone.
        let daemon = host.dhcp_daemon(&[]);
        daemon.prints("event=socket-left-alone", 1);
        daemon.stop();
        assert!(host.path("/run/cni/dhcp.sock").exists());
    }

    fn a_second_daemon_does_not_take_the_first_ones_leases(host) {
        let _first = host.dhcp_daemon(&[]);
        let dhcp = host.plugins().dir().join("dhcp").display().to_string();
        let refused = host.try_sh(&format!("{dhcp} daemon")).expect_err("a second daemon");
        assert!(refused.contains("another daemon"), "{refused}");
        // With a socket of its own it can run beside it.
        let second = host.dhcp_daemon(&["-socketpath", "/run/second.sock", "-pidfile", "/run/second.pid"]);
        assert_eq!(host.sh("cat /run/second.pid"), second.id().to_string());
        assert_eq!(host.sh("stat -c %a /run/second.pid /run/cni/dhcp/lock"), "644\n600\n");
        second.stop();
        assert!(!host.path("/run/second.pid").exists() && !host.path("/run/second.sock").exists());
    }
}

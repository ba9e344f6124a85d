//! The way to an API server: names, proxies and certificates.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use oxcni_tests::apiserver::{ApiServer, Identity, Proof, Role, Trust};
use oxcni_tests::{Call, DnsServer, Host, Node, Proxy, ProxyKind, Reply, on_scripted_node};
use serde_json::json;

const NAME: &str = "api.cluster.test";

/// The kubeconfig with another name or address of the server, and further lines of the cluster.
fn log_in_at(node: &Node, host: &str, more: &str) {
    let text = node.api.kubeconfig(&node.user, &Proof::Token, Trust::Authority);
    let (from, to) =
        (format!("https://127.0.0.1:{}", node.api.port()), format!("https://{host}:{}", node.api.port()));
    node.write("/run/kubeconfig", &text.replace(&from, &format!("{to}\n{more}")));
}

/// Gives the host a file of its own in /etc.
fn cover(host: &Host, name: &str, text: &str) {
    let file = format!("/run/etc-{name}");
    std::fs::write(host.path(&file), text).unwrap();
    host.sh(&format!("umount /etc/{name} 2>/dev/null || true; mount --bind {file} /etc/{name}"));
}

fn loopback(_: &str) -> Reply {
    Reply::Address([127, 0, 0, 1].into())
}

on_scripted_node! {
    fn a_name_is_resolved_by_the_hosts_file_before_any_server(node) {
        let server = DnsServer::start(&node.host, "127.0.0.53", |_| Reply::Failure);
        cover(&node.host, "resolv.conf", "nameserver 127.0.0.53\n");
        cover(&node.host, "hosts", &format!("127.0.0.1 localhost other {NAME} # the server\n"));
        log_in_at(&node, NAME, "");
        node.plain_pod("p").add().succeeds();
        assert!(server.asked().is_empty(), "{:?}", server.asked());
    }

    fn a_name_is_resolved_by_the_servers_of_resolv_conf(node) {
        let silent = DnsServer::start(&node.host, "127.0.0.53", |_| Reply::Silence);
        let failing = DnsServer::start(&node.host, "127.0.0.54", |_| Reply::Failure);
        let server = DnsServer::start(&node.host, "127.0.0.55", |name| {
            if name.eq_ignore_ascii_case(NAME) { loopback(name) } else { Reply::NoName }
        });
        cover(&node.host, "hosts", "127.0.0.1 localhost\n");
        let servers = "nameserver 127.0.0.53\nnameserver 127.0.0.54\nnameserver 127.0.0.55\n";
        cover(&node.host, "resolv.conf", &format!("{servers}search nowhere.test cluster.test\noptions timeout:1 x\n"));
        log_in_at(&node, NAME, "");
        node.plain_pod("p").add().succeeds();
        assert!(!silent.asked().is_empty() && !failing.asked().is_empty());
        // A short name is tried in the domains first.
        cover(&node.host, "resolv.conf", "nameserver 127.0.0.55\nsearch nowhere.test cluster.test\n");
        log_in_at(&node, "api", "    tls-server-name: localhost");
        node.plain_pod("q").add().succeeds();
        let asked = server.asked();
        assert!(asked.contains(&"api.nowhere.test".to_owned()) && !asked.contains(&"api".to_owned()), "{asked:?}");
    }

    fn a_name_that_nobody_knows_is_an_error_that_says_so(node) {
        let _server = DnsServer::start(&node.host, "127.0.0.53", |_| Reply::NoName);
        cover(&node.host, "hosts", "");
        cover(&node.host, "resolv.conf", "nameserver 127.0.0.53\n");
        log_in_at(&node, NAME, "");
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains(&format!("{NAME}: no such host")), "{text}");
        // Nobody is there, and the port is closed.
        cover(&node.host, "resolv.conf", "nameserver 127.0.0.99\n");
        let text = node.plain_pod("q").add().error().text();
        assert!(text.contains("DNS server 127.0.0.99"), "{text}");
    }

    fn a_proxy_of_each_kind_is_used(node) {
        let credentials = "us er:p@ss";
        for kind in [ProxyKind::Http, ProxyKind::Https, ProxyKind::Socks5] {
            for user in [None, Some(credentials)] {
                let proxy = Proxy::start(&node.host, &node.api, kind, user);
                let scheme = match kind {
                    ProxyKind::Http => "http",
                    ProxyKind::Https => "https",
                    ProxyKind::Socks5 => "socks5",
                };
                let login = user.map_or("", |_| "us%20er:p%40ss@");
                let url = format!("{scheme}://{login}127.0.0.1:{}", proxy.port());
                let name = format!("p{}", node.api.list("/api/v1/pods").len());
                log_in_at(&node, NAME, &format!("    proxy-url: {url}"));
                node.plain_pod(&name).add().succeeds();
                let target = format!("{NAME}:{}", node.api.port());
                assert!(!proxy.tunnels().is_empty(), "{kind:?}");
                assert!(proxy.tunnels().iter().all(|tunnel| *tunnel == target), "{:?}", proxy.tunnels());
                // The same by the environment.
                log_in_at(&node, NAME, "");
                let before = proxy.tunnels().len();
                node.plain_pod(&format!("{name}-env")).call("ADD").env("HTTPS_PROXY", &url).run().succeeds();
                assert!(proxy.tunnels().len() > before, "{kind:?}");
            }
        }
    }

    fn an_error_names_the_proxy_and_not_its_credentials(node) {
        let proxy = Proxy::start(&node.host, &node.api, ProxyKind::Http, Some("user:secret"));
        log_in_at(&node, NAME, &format!("    proxy-url: http://user:s3cret@127.0.0.1:{}", proxy.port()));
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains(&format!("HTTP proxy 127.0.0.1:{}", proxy.port())), "{text}");
        assert!(text.contains("authorization required") && !text.contains("s3cret"), "{text}");
    }

    fn a_malformed_proxy_hurts_only_who_would_use_it(node) {
        log_in_at(&node, "127.0.0.1", "");
        let add = |name: &str, no_proxy: &str| {
            node.plain_pod(name).call("ADD").env("HTTPS_PROXY", "ht tp://x").env("NO_PROXY", no_proxy).run()
        };
        add("p", "").succeeds();
        cover(&node.host, "hosts", &format!("127.0.0.1 {NAME}\n"));
        log_in_at(&node, NAME, "");
        add("q", "cluster.test").succeeds();
        let text = add("r", "").error().text();
        assert!(text.contains("HTTPS_PROXY"), "{text}");
    }

    fn a_server_certificate_that_is_the_authority_is_accepted(node) {
        node.api = ApiServer::start_as(&node.host, Identity::Authority);
        node.user = node.api.user("multus", Role::Least);
        node.log_in(&Proof::Token, Trust::Authority);
        node.plain_pod("p").add().succeeds();
        // Not under another name, nor where another authority is configured.
        cover(&node.host, "hosts", "127.0.0.1 elsewhere.test\n");
        log_in_at(&node, "elsewhere.test", "");
        let text = node.plain_pod("q").add().error().text();
        assert!(text.contains("not valid for name"), "{text}");
        node.log_in(&Proof::Token, Trust::AnotherAuthority);
        let text = node.plain_pod("r").add().error().text();
        assert!(text.contains("certificate"), "{text}");
    }

    fn a_server_whose_key_is_of_no_known_kind_is_explained(node) {
        // What a server with a key on P-521 sends: the alert handshake_failure (RFC 8446, section 6).
        let listener = node.host.enter(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut hello = [0; 4096];
                drop(stream.read(&mut hello));
                drop(stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]));
                drop(stream.read(&mut hello));
            }
        });
        let text = node.api.kubeconfig(&node.user, &Proof::Token, Trust::Authority);
        node.write("/run/kubeconfig", &text.replace(&node.api.port().to_string(), &port.to_string()));
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains("P-521 is not supported"), "{text}");
    }

    /// The C library would need its modules here.
    fn a_name_is_resolved_in_a_root_without_libraries(node) {
        let _server = DnsServer::start(&node.host, "127.0.0.53", loopback);
        node.configure("delegates", json!([{ "cniVersion": "1.0.0", "name": "default-net", "type": "loopback" }]));
        log_in_at(&node, NAME, "");
        let pod = node.plain_pod("p");
        let programs = node.host.plugins().dir().display().to_string();
        // A dynamic build needs its libraries, of which none is a module.
        node.host.sh(&format!(
            "mkdir -p /run/root && mount -t tmpfs root /run/root && cd /run/root
             mkdir -p proc sys run var/lib dev etc usr/cni && for folder in proc sys run var/lib dev; do mount --rbind /$folder $folder; done
             cp -L {programs}/multus {programs}/loopback usr/cni/
             ldd usr/cni/multus | grep -o '/[^ ]*' | while read -r library; do mkdir -p .${{library%/*}}; cp -L $library .$library; done || true
             echo 'hosts: mymachines' > etc/nsswitch.conf; echo 'nameserver 127.0.0.53' > etc/resolv.conf"
        ));
        let call: Call = pod.call("ADD").program("/usr/sbin/chroot").arg("/run/root").arg("/usr/cni/multus");
        call.env("CNI_PATH", "/usr/cni").run().succeeds();
        assert_eq!(pod.status()[0]["name"], "default-net");
    }
}

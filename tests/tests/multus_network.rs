//! The way to the API server: a proxy, and a server that is hostile over HTTP/2.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oxcni_tests::apiserver::{Proof, Trust};
use oxcni_tests::{Node, on_scripted_node};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

/// A kubelet gives up after two minutes.
const BOUND: Duration = Duration::from_secs(50);

/// The memory that one call may use, in KiB. These are debug builds: it is a bound, not a measurement.
const MEMORY: u32 = 64 << 10;

/// A proxy on the host's loopback that serves CONNECT; returns its port and the number of tunnels.
fn proxy(node: &Node) -> (u16, Arc<AtomicUsize>) {
    let listener = node.host.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, tunnels) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&tunnels);
    // A socket is made in the namespace of the thread that makes it.
    let netns = node.host.enter(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap());
    std::thread::spawn(move || {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for client in listener.incoming().flatten() {
            let (mut client, mut head) = (client, Vec::new());
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let Some(server) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                continue;
            };
            let mut server = TcpStream::connect(server).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    (port, tunnels)
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A server on the host's loopback that begins each connection with `first` and then sends `endless` again
/// and again; writes the kubeconfig that leads to it.
fn hostile(node: &Node, first: Vec<u8>, endless: Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut tls = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    let listener = node.host.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (tls, first, endless) = (Arc::clone(&tls), first.clone(), endless.clone());
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), client);
                // The preface of the client (RFC 9113, section 3.4).
                let mut preface = [0; 24];
                stream.read_exact(&mut preface)?;
                stream.write_all(&frame(4, 0, 0, &[]))?;
                stream.write_all(&first)?;
                // The client closes the connection.
                std::iter::repeat(()).try_for_each(|()| stream.write_all(&endless))
            });
        }
    });
    node.write("/run/kubeconfig", &format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n\
         clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n"
    ));
}

/// An ADD fails in time and in bounded memory, and attaches nothing.
fn is_survived(node: &Node) {
    let before = Instant::now();
    let error = node.plain_pod("p").call("ADD").within_memory(MEMORY).run().error();
    assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
    assert!(error.text().contains("API server 127.0.0.1"), "{error:?}");
    assert!(node.calls().is_empty(), "{:?}", node.calls());
}

/// HEADERS of stream 1 with `:status` 200, the eighth entry of HPACK's static table.
fn ok_headers(flags: u8) -> Vec<u8> {
    frame(1, flags, 1, &[0x88])
}

on_scripted_node! {
    fn a_proxy_of_the_kubeconfig_is_used(node) {
        let (port, tunnels) = proxy(&node);
        let text = node.api.kubeconfig(&node.user, &Proof::Token, Trust::Authority);
        let url = format!("    proxy-url: http://127.0.0.1:{port}\n    server:");
        node.write("/run/kubeconfig", &text.replacen("    server:", &url, 1));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0"]);
        assert!(tunnels.load(Ordering::Relaxed) > 0);
    }

    fn a_proxy_of_another_kind_is_refused_and_not_bypassed(node) {
        let text = node.api.kubeconfig(&node.user, &Proof::Token, Trust::Authority);
        node.write("/run/kubeconfig", &text.replacen("    server:", "    proxy-url: socks4://proxy:3128\n    server:", 1));
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains("proxy-url") && text.contains("/run/kubeconfig"), "{text}");
        assert_eq!(node.api.requests(), []);
    }

    fn a_malformed_proxy_of_the_environment_is_ignored_for_a_server_on_this_host(node) {
        let pod = node.plain_pod("p");
        pod.call("ADD").env("HTTPS_PROXY", "ht tp://broken").run().succeeds();
    }

    fn endless_pings_end(node) {
        hostile(&node, Vec::new(), frame(6, 0, 0, &[0; 8]).repeat(100));
        is_survived(&node);
    }

    fn endless_settings_end(node) {
        hostile(&node, Vec::new(), frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(100));
        is_survived(&node);
    }

    fn endless_headers_end(node) {
        hostile(&node, ok_headers(0), frame(9, 0, 1, &[0x88; 1000]).repeat(10));
        is_survived(&node);
    }

    fn an_endless_body_ends(node) {
        hostile(&node, ok_headers(4), frame(0, 0, 1, &[b' '; 16_384]));
        is_survived(&node);
    }

    fn endless_empty_data_frames_end(node) {
        hostile(&node, ok_headers(4), frame(0, 0, 1, &[]).repeat(100));
        is_survived(&node);
    }

    fn endless_resets_and_pushes_end(node) {
        hostile(&node, Vec::new(), [frame(3, 0, 1, &[0, 0, 0, 8]), frame(5, 4, 1, &[0, 0, 0, 2, 0x88])].concat());
        is_survived(&node);
    }
}

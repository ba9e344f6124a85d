//! An API server that is slow, denies, is busy, conflicts, breaks connections or talks nonsense.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::apiserver::{ApiServer, Fault, Proof, Protocols, Request, Role, Trust};
use oxcni_tests::{Node, bridge, on_scripted_node, requirement};
use serde_json::{Value, json};

/// A kubelet gives up after two minutes; an answer must come well before that.
const BOUND: Duration = Duration::from_secs(50);

/// More than any limit of retries.
const ALWAYS: usize = 10_000;

/// The most requests that one call may send for one object, first try included.
const RETRY_LIMIT: usize = 10;

/// The memory that one call may use, in KiB. These are debug builds: it is a bound, not a measurement.
const MEMORY: u32 = 12 << 10;

fn adds(node: &Node) -> usize {
    node.calls().iter().filter(|call| call.starts_with("ADD")).count()
}

on_scripted_node! {
    fn every_proof_and_trust_of_a_kubeconfig_is_used(node) {
        node.write("/run/token", &format!("{}\n", node.user.token()));
        for (number, proof) in
            [Proof::Certificate, Proof::Token, Proof::TokenFile("/run/token".to_owned())].into_iter().enumerate()
        {
            for trust in [Trust::Authority, Trust::Anything] {
                node.log_in(&proof, trust);
                let name = format!("p{number}-{trust:?}").to_lowercase();
                node.plain_pod(&name).add().succeeds();
            }
        }
    }

    fn a_server_that_speaks_only_http_1_is_understood(node) {
        node.api = ApiServer::start_with(&node.host, Protocols::Http1);
        node.user = node.api.user("multus", Role::Least);
        node.log_in(&Proof::Certificate, Trust::Authority);
        for name in ["a", "b", "c"] {
            node.scripted(name, "");
        }
        let pod = node.pod("p", "a,b,c");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0", "net1", "net2", "net3"]);
        assert!(node.api.requests().iter().all(|request| request.protocol == "HTTP/1.1"));
    }

    fn a_certificate_of_another_authority_is_refused(node) {
        node.log_in(&Proof::Token, Trust::AnotherAuthority);
        let text = node.plain_pod("p").add().error().text();
        assert!(text.to_lowercase().contains("certificate"), "{text}");
        assert_eq!(node.api.requests(), [], "an untrusted server gets no request");
        assert_eq!(adds(&node), 0);
    }

    fn credentials_that_are_not_known_are_refused_at_once(node) {
        node.log_in(&Proof::WrongToken, Trust::Authority);
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains("Unauthorized"), "{text}");
        assert_eq!(node.api.count("GET", "/pods/p"), 1, "no retry helps");
    }

    fn the_error_reports_that_a_user_may_not_read_pods(node) {
        node.give_role(Role::Nothing);
        let text = node.plain_pod("p").add().error().text();
        assert!(text.contains("forbidden") && text.contains("pods"), "{text}");
        assert_eq!(node.api.count("GET", "/pods/p"), 1);
        assert_eq!(adds(&node), 0);
    }

    fn a_slow_server_is_waited_for(node) {
        node.api.fault("GET", "/pods/p", 1, Fault::Slow(Duration::from_secs(1)));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(node.api.count("GET", "/pods/p"), 1);
    }

    fn a_silent_server_is_not_waited_for_forever(node) {
        node.api.fault("GET", "/pods/p", ALWAYS, Fault::Silent);
        let pod = node.plain_pod("p");
        let before = Instant::now();
        let text = pod.add().error().text();
        assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
        assert!(text.contains("default/p"), "{text}");
        assert!(node.api.count("GET", "/pods/p") <= RETRY_LIMIT);
        assert_eq!(adds(&node), 0);
    }

    fn a_busy_server_is_asked_again_after_its_pause(node) {
        node.scripted("a", "");
        node.api.fault("GET", "/pods/p", 1, Fault::Busy(1));
        node.api.fault("GET", "/network-attachment-definitions/a", 1, Fault::Busy(1));
        let pod = node.pod("p", "a");
        let before = Instant::now();
        pod.add().succeeds();
        assert!(before.elapsed() >= Duration::from_secs(2), "{:?}", before.elapsed());
        assert_eq!(node.api.count("GET", "/pods/p"), 2);
        assert_eq!(node.api.count("GET", "/network-attachment-definitions/a"), 2);
    }

    fn what_passes_is_tried_again(node) {
        node.scripted("a", "");
        for (number, fault) in [
            Fault::Status(500), Fault::Status(503), Fault::Broken, Fault::CutOff,
        ].into_iter().enumerate() {
            let name = format!("p{number}");
            node.api.fault("GET", &format!("/pods/{name}"), 1, fault.clone());
            node.api.fault("GET", "/network-attachment-definitions/a", 1, fault.clone());
            node.api.fault("PATCH", "/status", 1, fault);
            let pod = node.pod(&name, "a");
            pod.add().succeeds();
            assert_eq!(pod.interfaces(), ["eth0", "net1"]);
        }
    }

    fn writing_the_whole_is_tried_again_too(node) {
        node.give_role(Role::Upstream);
        for (number, fault) in [
            Fault::Status(500), Fault::Status(503), Fault::Broken, Fault::CutOff, Fault::Busy(1),
        ].into_iter().enumerate() {
            node.api.fault("PUT", "/status", 1, fault.clone());
            let pod = node.plain_pod(&format!("p{number}"));
            pod.add().succeeds();
            assert_eq!(pod.interfaces(), ["eth0"], "{fault:?}");
        }
    }

    fn writing_the_whole_to_a_silent_server_ends_in_time(node) {
        node.give_role(Role::Upstream);
        node.api.fault("PUT", "/status", ALWAYS, Fault::Silent);
        let pod = node.plain_pod("p");
        let before = Instant::now();
        assert!(!pod.add().ok());
        assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
        assert_eq!(node.calls(), ["ADD eth0 main", "DEL eth0 main"]);
    }

    fn an_event_is_tried_again(node) {
        node.api.fault("POST", "/events", 1, Fault::Status(503));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(pod.events().len(), 1);
    }

    fn what_does_not_pass_is_not_tried_forever(node) {
        for (number, fault) in [
            Fault::Status(500), Fault::Status(503), Fault::Busy(0), Fault::Broken, Fault::CutOff, Fault::Garbage,
        ].into_iter().enumerate() {
            let name = format!("p{number}");
            node.api.fault("GET", &format!("/pods/{name}"), ALWAYS, fault.clone());
            let pod = node.plain_pod(&name);
            let before = Instant::now();
            assert!(!pod.add().ok(), "{fault:?}");
            assert!(before.elapsed() < BOUND, "{fault:?}: {:?}", before.elapsed());
            let tried = node.api.count("GET", &format!("/pods/{name}"));
            assert!(tried <= RETRY_LIMIT, "{fault:?}: {tried}");
        }
        assert_eq!(adds(&node), 0);
    }

    fn a_status_that_can_not_be_written_takes_all_down(node) {
        node.api.fault("PATCH", "/status", ALWAYS, Fault::Status(500));
        let pod = node.plain_pod("p");
        let before = Instant::now();
        assert!(!pod.add().ok());
        assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
        assert_eq!(node.calls(), ["ADD eth0 main", "DEL eth0 main"]);
        assert!(node.api.count("PATCH", "/status") <= RETRY_LIMIT);
    }

    fn a_conflict_is_resolved_by_reading_again(node) {
        node.give_role(Role::Upstream);
        node.api.fault("PUT", "/status", 2, Fault::Conflict);
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0"]);
        assert_eq!(node.api.count("PUT", "/status"), 3);
    }

    fn conflicts_do_not_go_on_forever(node) {
        node.give_role(Role::Upstream);
        node.api.fault("PUT", "/status", ALWAYS, Fault::Conflict);
        let pod = node.plain_pod("p");
        assert!(!pod.add().ok());
        assert!(node.api.count("PUT", "/status") <= RETRY_LIMIT);
        assert_eq!(node.calls(), ["ADD eth0 main", "DEL eth0 main"]);
    }

    fn an_event_that_can_not_be_posted_is_no_failure(node) {
        for (number, fault) in [Fault::Forbidden, Fault::Status(500), Fault::Silent, Fault::Broken].into_iter().enumerate() {
            node.api.fault("POST", "/events", ALWAYS, fault.clone());
            let before = Instant::now();
            node.plain_pod(&format!("p{number}")).add().succeeds();
            assert!(before.elapsed() < BOUND, "{fault:?}: {:?}", before.elapsed());
            node.api.heal();
        }
    }

    fn a_server_that_is_away_is_an_error_that_names_it(node) {
        let url = node.api.url();
        let pod = node.plain_pod("p");
        node.api.stop();
        let before = Instant::now();
        let text = pod.add().error().text();
        assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
        assert!(text.contains(&url["https://".len()..]), "{text}");
        assert_eq!(adds(&node), 0);
    }

    fn a_kubeconfig_may_speak_for_another(node) {
        let text = node.api.kubeconfig(&node.user, &Proof::Token, Trust::Authority);
        let other = r#"{ as: someone, as-groups: [one, two], token: "#;
        node.write("/run/kubeconfig", &text.replacen("{ token: ", other, 1));
        node.plain_pod("p").add().succeeds();
        let requests = node.api.requests();
        assert!(!requests.is_empty());
        assert!(requests.iter().all(|it| it.on_behalf_of == ["someone", "one", "two"]), "{requests:#?}");
    }

    fn the_error_names_an_invalid_kubeconfig(node) {
        let pod = node.plain_pod("p");
        for damage in ["rm /run/kubeconfig", "echo 'a: [' > /run/kubeconfig", "echo 'kind: Config' > /run/kubeconfig"] {
            node.host.sh(damage);
            let text = pod.add().error().text();
            assert!(text.contains("/run/kubeconfig"), "{damage}: {text}");
        }
    }

    fn secrets_are_nowhere_to_be_read(node) {
        node.configure("logLevel", json!("debug"));
        node.configure("logFile", json!("/run/multus.log"));
        node.configure("logToStderr", json!(true));
        node.script("main", "[ $CNI_COMMAND = ADD ] && [ -e /run/fail ] && exit 1");
        for proof in [Proof::Token, Proof::Certificate, Proof::WrongToken] {
            node.log_in(&proof, Trust::Authority);
            for fault in [None, Some(Fault::Unauthorized), Some(Fault::Broken), Some(Fault::Garbage)] {
                let name = format!("p{}", node.api.list("/api/v1/pods").len());
                if let Some(fault) = fault {
                    node.api.fault("GET", "/pods/", 20, fault);
                }
                let pod = node.plain_pod(&name);
                let outcome = pod.add();
                let events = Value::from(node.api.list("/api/v1/events")).to_string();
                let log = node.read("/run/multus.log");
                for secret in [node.user.token(), node.user.key_line(), "nobody-has-this-token"] {
                    for text in [&outcome.stdout, &outcome.stderr, &events, &log, &pod.status_text()] {
                        assert!(!text.contains(secret), "{text}");
                    }
                }
                node.api.heal();
            }
        }
        assert!(!node.read("/run/multus.log").is_empty(), "there is a log to look at");
    }
}

#[test]
fn a_hundred_and_fifty_pods_at_once_are_all_served() {
    let reason = "an emulated processor does not answer so many requests in time";
    if !requirement::met_on_any_kernel(
        "multus_api::a_hundred_and_fifty_pods_at_once_are_all_served",
        &[],
        reason,
    ) {
        return;
    }
    let count = oxcni_tests::cases(150);
    let mut node = Node::new(oxcni_tests::Plugins::Multicall);
    node.configure("delegates", json!([bridge("default-net", "10.244.0.0/16")]));
    node.definition("a", &bridge("net-a", "10.1.0.0/16"));
    let pods: Vec<_> = (0..count).map(|number| node.pod(&format!("p{number}"), "a")).collect();
    let started: Vec<_> = pods.iter().map(|pod| pod.call("ADD").within_memory(MEMORY).start()).collect();
    for child in started {
        oxcni_tests::Outcome::of(child, "one of 150 ADDs").succeeds();
    }
    let mut addresses: Vec<String> =
        pods.iter().map(|pod| pod.status()[1]["ips"][0].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), pods.len());
    let requests = node.api.requests();
    let tried = |method: &str, is_it: &dyn Fn(&Request) -> bool| {
        requests.iter().filter(|request| request.method == method && is_it(request)).count()
    };
    for number in 0..count {
        let name = format!("p{number}");
        let about = |request: &Request| request.body["involvedObject"]["name"] == name.as_str();
        let pod = format!("/pods/{name}");
        let status = format!("{pod}/status");
        for (what, tried, limit) in [
            ("reads", tried("GET", &|request| request.path.ends_with(&pod)), RETRY_LIMIT),
            ("writes", tried("PATCH", &|request| request.path.ends_with(&status)), RETRY_LIMIT),
            ("events", tried("POST", &about), 2 * RETRY_LIMIT),
        ] {
            assert!((1..=limit).contains(&tried), "{tried} {what} of {name}");
        }
    }
    let definitions = node.api.count("GET", "/network-attachment-definitions/a");
    assert!((pods.len()..=pods.len() * RETRY_LIMIT).contains(&definitions), "{definitions}");
    let started: Vec<_> = pods.iter().map(|pod| pod.call("DEL").within_memory(MEMORY).start()).collect();
    for child in started {
        oxcni_tests::Outcome::of(child, "one of 150 DELs").succeeds();
    }
    for network in ["default-net", "net-a"] {
        assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
    }
}

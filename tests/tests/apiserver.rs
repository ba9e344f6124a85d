//! The test API server, by Debian's `kubectl`: a client that was not written for it.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::apiserver::{ApiServer, Fault, Proof, Protocols, Role, Trust, User};
use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Host, Plugins};
use serde_json::{Value, json};

const POD: &str = "/api/v1/namespaces/default/pods/p";
const STATUS: &str = "/api/v1/namespaces/default/pods/p/status";

fn definition(name: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name },
        "spec": { "config": "{}" },
    })
}

struct Cluster {
    host: Host,
    api: ApiServer,
}

impl Cluster {
    /// A cluster with a pod and two definitions; `None` where the test can't run.
    fn new(test: &str) -> Option<Self> {
        Self::with(test, Protocols::Http2)
    }

    fn with(test: &str, protocols: Protocols) -> Option<Self> {
        let reason = "kubectl and the API server decide it";
        if !requirement::met_on_any_kernel(&format!("apiserver::{test}"), &[Feature::Kubectl], reason) {
            return None;
        }
        let host = Host::new(Plugins::Multicall);
        let api = ApiServer::start_with(&host, protocols);
        api.create(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "nodeName": "n" } }));
        api.create(definition("one"));
        api.create(definition("two"));
        Some(Self { host, api })
    }

    fn login(&self, user: &User, proof: &Proof, trust: Trust) {
        std::fs::write(self.host.path("/run/kubeconfig"), self.api.kubeconfig(user, proof, trust)).unwrap();
    }

    /// Logs in with this role and a client certificate.
    fn login_as(&self, role: Role) {
        self.login(&self.api.user("someone", role), &Proof::Certificate, Trust::Authority);
    }

    fn kubectl(&self, arguments: &str) -> Result<String, String> {
        // Its cache must not be that of the machine's user.
        self.host.try_sh(&format!(
            "export HOME=/run/home; kubectl --kubeconfig /run/kubeconfig --request-timeout=20s {arguments}"
        ))
    }

    fn refused(&self, arguments: &str, why: &str) {
        let message = self.kubectl(arguments).unwrap_err();
        assert!(message.contains(why), "{arguments}: {message}");
    }
}

#[test]
fn kubectl_gets_pods_and_definitions() {
    for protocols in [Protocols::Http1, Protocols::Http2] {
        let Some(cluster) = Cluster::with("kubectl_gets_pods_and_definitions", protocols) else { return };
        cluster.login_as(Role::Admin);
        assert_eq!(cluster.kubectl("get pod p -o jsonpath={.spec.nodeName}").unwrap(), "n");
        let names = cluster.kubectl("get net-attach-def -o name").unwrap();
        assert_eq!(
            names.lines().collect::<Vec<_>>(),
            ["one", "two"].map(|name| format!("networkattachmentdefinition.k8s.cni.cncf.io/{name}"))
        );
        assert!(cluster.kubectl("get pods -A").unwrap().contains("default"));
        cluster.refused("get pod q", "pods \"q\" not found");
        let protocol = match protocols {
            Protocols::Http1 => "HTTP/1.1",
            Protocols::Http2 => "HTTP/2.0",
        };
        assert!(cluster.api.requests().iter().all(|request| request.protocol == protocol));
    }
}

#[test]
fn kubectl_patches_pods_their_status_and_definitions() {
    let Some(cluster) = Cluster::new("kubectl_patches_pods_their_status_and_definitions") else { return };
    cluster.login_as(Role::Admin);
    for (form, patch) in [
        ("merge", r#"{"metadata":{"annotations":{"form":"merge"}}}"#),
        ("strategic", r#"{"metadata":{"annotations":{"form":"strategic"}}}"#),
        ("json", r#"[{"op":"replace","path":"/metadata/annotations/form","value":"json"}]"#),
    ] {
        cluster.kubectl(&format!("patch pod p --type={form} -p '{patch}'")).unwrap();
        assert_eq!(cluster.api.object(POD)["metadata"]["annotations"]["form"], form);
    }
    cluster.kubectl(r#"patch pod p --subresource=status -p '{"status":{"phase":"Running"}}'"#).unwrap();
    assert_eq!(cluster.api.object(POD)["status"]["phase"], "Running");
    cluster.kubectl(r#"patch net-attach-def one --type=merge -p '{"spec":{"config":"new"}}'"#).unwrap();
    let one = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/one";
    assert_eq!(cluster.api.object(one)["spec"]["config"], "new");
    cluster.refused("patch net-attach-def one -p '{}' --type=strategic", "strategic merge patch");
}

#[test]
fn who_someone_is_is_proved_by_certificate_or_token() {
    let Some(cluster) = Cluster::new("who_someone_is_is_proved_by_certificate_or_token") else { return };
    let user = cluster.api.user("someone", Role::Least);
    std::fs::write(cluster.host.path("/run/token"), user.token()).unwrap();
    for proof in [Proof::Certificate, Proof::Token, Proof::TokenFile("/run/token".to_owned())] {
        for trust in [Trust::Authority, Trust::Anything] {
            cluster.login(&user, &proof, trust);
            cluster.kubectl("get --raw /api/v1/namespaces/default/pods/p").unwrap();
        }
    }
    let raw = format!("get --raw {POD}");
    cluster.login(&user, &Proof::WrongToken, Trust::Authority);
    cluster.refused(&raw, "Unauthorized");
    cluster.login(&user, &Proof::Token, Trust::AnotherAuthority);
    cluster.refused(&raw, "certificate signed by unknown authority");
    cluster.login(&user, &Proof::Nothing, Trust::Authority);
    // It asks for a name and a password where it has nothing.
    cluster.refused(&format!("{raw} </dev/null"), "");
    assert_eq!(cluster.api.count("GET", POD), 7, "six that may, one with a wrong token");
}

#[test]
fn a_role_bounds_what_someone_may_do() {
    let Some(cluster) = Cluster::new("a_role_bounds_what_someone_may_do") else { return };
    let patch = r#"patch pod p --subresource=status --type=merge -p '{"status":{"phase":"Running"}}'"#;
    cluster.login_as(Role::Upstream);
    cluster.kubectl("get pods").unwrap();
    cluster.refused(
        patch,
        "cannot patch resource \"pods/status\" in API group \"\" in the namespace \"default\"",
    );
    cluster.host.sh("echo '{}' > /run/object");
    cluster.kubectl(&format!("replace --raw {STATUS} -f /run/object")).unwrap();
    let user = cluster.api.user("another", Role::MicroShift);
    cluster.login(&user, &Proof::Certificate, Trust::Authority);
    cluster.kubectl(patch).unwrap();
    let user = cluster.api.user("third", Role::Least);
    cluster.login(&user, &Proof::Certificate, Trust::Authority);
    cluster.kubectl(&format!("get --raw {POD}")).unwrap();
    // The role has PATCH alone, and kubectl reads first.
    cluster.refused(patch, "cannot get resource \"pods/status\"");
    cluster.refused("get pods", "cannot list resource \"pods\"");
    cluster.refused(&format!("replace --raw {STATUS} -f /run/object"), "cannot update");
    cluster.refused("delete pod p", "cannot delete");
}

#[test]
fn an_older_version_is_a_conflict() {
    let Some(cluster) = Cluster::new("an_older_version_is_a_conflict") else { return };
    cluster.login_as(Role::Admin);
    let put = format!("replace --raw {POD} -f /run/object");
    cluster.kubectl(&format!("get --raw {POD} > /run/object")).unwrap();
    cluster.kubectl(&put).unwrap();
    cluster.refused(&put, "the object has been modified");
}

#[test]
fn events_are_kept() {
    let Some(cluster) = Cluster::new("events_are_kept") else { return };
    cluster.login_as(Role::Least);
    let event = r#"{"metadata":{"generateName":"p.","namespace":"default"},"reason":"AddedInterface"}"#;
    cluster.host.sh(&format!("echo '{event}' > /run/object"));
    for path in ["/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events"] {
        cluster.kubectl(&format!("create --raw {path} -f /run/object")).unwrap();
    }
    assert_eq!(cluster.api.list("/api/v1/events")[0]["reason"], "AddedInterface");
    assert_eq!(cluster.api.list("/apis/events.k8s.io/v1/events").len(), 1);
}

#[test]
fn faults_come_as_planned_and_end() {
    let Some(cluster) = Cluster::new("faults_come_as_planned_and_end") else { return };
    cluster.login_as(Role::Admin);
    let get = format!("get --raw {POD}");
    for (fault, message) in [
        (Fault::Unauthorized, "Unauthorized"),
        (Fault::Forbidden, "forbidden"),
        (Fault::Conflict, "modified"),
        (Fault::Status(500), "the test says so"),
        (Fault::CutOff, ""),
        // A client may try again by itself where nothing came.
        (Fault::Broken, ""),
    ] {
        cluster.api.fault("GET", POD, if fault == Fault::Broken { 100 } else { 1 }, fault);
        cluster.refused(&get, message);
        cluster.api.heal();
        cluster.kubectl(&get).unwrap();
    }
    cluster.api.fault("GET", POD, 1, Fault::Garbage);
    assert!(cluster.kubectl(&get).unwrap().contains("\"not\": json"));
}

#[test]
fn a_busy_server_is_asked_again_after_the_time_that_it_says() {
    let Some(cluster) = Cluster::new("a_busy_server_is_asked_again_after_the_time_that_it_says") else {
        return;
    };
    cluster.login_as(Role::Admin);
    cluster.api.fault("GET", POD, 1, Fault::Busy(1));
    let before = Instant::now();
    cluster.kubectl(&format!("get --raw {POD}")).unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    let requests = cluster.api.requests();
    let answers: Vec<_> =
        requests.iter().filter(|request| request.path == POD).map(|request| request.answered).collect();
    assert_eq!(answers, [Some(429), Some(200)]);
}

#[test]
fn a_slow_server_answers_late_and_a_silent_one_never() {
    let Some(cluster) = Cluster::new("a_slow_server_answers_late_and_a_silent_one_never") else { return };
    cluster.login_as(Role::Admin);
    cluster.api.fault("GET", POD, 1, Fault::Slow(Duration::from_millis(300)));
    let before = Instant::now();
    cluster.kubectl(&format!("get --raw {POD}")).unwrap();
    assert!(before.elapsed() >= Duration::from_millis(300));
    cluster.api.fault("GET", POD, usize::MAX, Fault::Silent);
    cluster.refused(&format!("get --raw {POD} --request-timeout=500ms"), "imeout");
}

#[test]
fn a_stopped_server_refuses_connections() {
    let Some(cluster) = Cluster::new("a_stopped_server_refuses_connections") else { return };
    cluster.login_as(Role::Admin);
    cluster.kubectl(&format!("get --raw {POD}")).unwrap();
    cluster.api.stop();
    cluster.refused(&format!("get --raw {POD}"), "refused");
}

#[test]
fn servers_side_by_side_do_not_meet() {
    let Some(one) = Cluster::new("servers_side_by_side_do_not_meet") else { return };
    let Some(two) = Cluster::new("servers_side_by_side_do_not_meet") else { return };
    two.api.delete(POD);
    for cluster in [&one, &two] {
        cluster.login_as(Role::Admin);
    }
    one.kubectl("get pod p").unwrap();
    two.refused("get pod p", "not found");
    assert_eq!(one.api.count("GET", POD), 1);
}

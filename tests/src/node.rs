use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Proof, Role, Trust, User};
use crate::{Call, Container, Host, Outcome, Plugins, with_keys};

/// Where scripts are installed that play plugins of a third party.
const SCRIPTS: &str = "/run/bin";
/// Where they note their calls.
const NOTES: &str = "/run/notes";

/// A node of a cluster: a host with multus, an API server, and scripts that play plugins.
///
/// Multus is configured with the kubeconfig of a user with the least role, and with the script
/// `main` as the default network.
pub struct Node {
    /// The node.
    pub host: Host,
    /// The cluster's API server.
    pub api: ApiServer,
    /// Whom multus logs in as.
    pub user: User,
    config: Value,
}

/// A pod on a [`Node`]: its object in the cluster and its namespace.
pub struct Pod<'n> {
    /// Its namespace.
    pub container: Container<'n>,
    node: &'n Node,
    namespace: String,
    name: String,
    uid: String,
}

/// Runs a test on a [`Node`](crate::Node), with multus and its delegates in one program and with
/// each as a program of its own; `on_any_kernel` as for [`both_flavours!`](crate::both_flavours).
///
/// ```ignore
/// on_node! {
///     fn del_needs_no_api_server(node) { .. }
/// }
/// ```
#[macro_export]
macro_rules! on_node {
    (on_any_kernel: $reason:literal; $( $(#[$meta:meta])* fn $name:ident($node:ident) $body:block )*) => {
        $crate::flavours! {
            (|test, features| $crate::requirement::met_on_any_kernel(test, features, $reason))
            $( $(#[$meta])* fn $name($node: $crate::Node) needs [] $body )*
        }
    };
    ($( $(#[$meta:meta])* fn $name:ident($node:ident) $body:block )*) => {
        $crate::flavours! {
            ($crate::requirement::met)
            $( $(#[$meta])* fn $name($node: $crate::Node) needs [] $body )*
        }
    };
}

/// As [`on_node!`](crate::on_node), for tests whose delegates are all scripts: these run on any
/// kernel.
#[macro_export]
macro_rules! on_scripted_node {
    ($($test:tt)*) => {
        $crate::on_node! { on_any_kernel: "its delegates are scripts"; $($test)* }
    };
}

/// The configuration of a network of ours on a bridge of its name, its addresses from `subnet`.
pub fn bridge(name: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name,
        "ipam": { "type": "host-local", "subnet": subnet },
    })
}

/// The same as the gateway of its containers.
pub fn gateway(name: &str, subnet: &str) -> Value {
    with_keys(bridge(name, subnet), json!({ "isGateway": true }))
}

impl Node {
    /// A node on which `plugins` are installed, with an empty cluster.
    pub fn new(plugins: Plugins) -> Self {
        let host = Host::new(plugins);
        let api = ApiServer::start(&host);
        let user = api.user("multus", Role::Least);
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "multus-cni-network",
            "type": "multus",
            "kubeconfig": "/run/kubeconfig",
            "binDir": SCRIPTS,
            "confDir": "/run/multus.d",
            "delegates": [{ "cniVersion": "1.0.0", "name": "default-net", "type": "main" }],
        });
        let node = Self { host, api, user, config };
        node.host.sh(&format!("mkdir -p {SCRIPTS} {NOTES} /run/multus.d"));
        node.log_in(&Proof::Certificate, Trust::Authority);
        node.script("main", "");
        node
    }

    /// Gives multus a user with another role.
    pub fn give_role(&mut self, role: Role) {
        self.user = self.api.user("multus-with-another-role", role);
        self.log_in(&Proof::Certificate, Trust::Authority);
    }

    /// Writes the kubeconfig again, with another proof or trust.
    pub fn log_in(&self, proof: &Proof, trust: Trust) {
        self.write("/run/kubeconfig", &self.api.kubeconfig(&self.user, proof, trust));
    }

    /// Sets a key of multus' configuration; `null` takes it away.
    pub fn configure(&mut self, key: &str, value: Value) {
        let fields = self.config.as_object_mut().expect("an object");
        match value {
            Value::Null => drop(fields.remove(key)),
            value => drop(fields.insert(key.to_owned(), value)),
        }
    }

    /// Multus' configuration.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Writes a file of the node, and the folders above it.
    pub fn write(&self, path: &str, text: &str) {
        let outside = self.host.path(path);
        std::fs::create_dir_all(outside.parent().expect("a folder")).expect("the file's folder");
        std::fs::write(outside, text).unwrap_or_else(|err| panic!("{path}: {err}"));
    }

    /// A file of the node; empty when it does not exist.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.host.path(path)).unwrap_or_default()
    }

    /// Installs a plugin that is a shell script: it notes each call, runs `first`, and then, on
    /// ADD, reports that it created the interface.
    ///
    /// `first` may exit; `$CNI_COMMAND` and the others are set, `$config` is what came in.
    pub fn script(&self, name: &str, first: &str) {
        let script = r#"#!/bin/sh
config=$(cat)
me=${0##*/}
echo "$CNI_COMMAND $CNI_IFNAME $me $CNI_CONTAINERID" >> NOTES/calls
printf '%s' "$config" > "NOTES/config-$me-$CNI_COMMAND-$CNI_IFNAME"
printf '%s' "$CNI_ARGS" > "NOTES/args-$me-$CNI_COMMAND-$CNI_IFNAME"
FIRST
version=$(printf '%s' "$config" | grep -o '"cniVersion": *"[^"]*"' | head -n 1)
case $CNI_COMMAND in
ADD)
    case $version in *'"0.'*) family='"version":"4",' ;; *) family= ;; esac
    cat << END
{ $version, "interfaces": [{ "name": "$CNI_IFNAME", "mac": "02:00:00:00:00:01", "sandbox": "$CNI_NETNS" }],
  "ips": [{ $family "interface": 0, "address": "10.9.0.1/24", "gateway": "10.9.0.254" }] }
END
    ;;
VERSION)
    echo '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}'
    ;;
esac
"#;
        let script = script.replace("NOTES", NOTES).replace("FIRST", first);
        self.host.install_script(&format!("{SCRIPTS}/{name}"), &script);
    }

    /// The calls of scripts so far, such as `ADD net1 main`, in order; VERSION is left out.
    pub fn calls(&self) -> Vec<String> {
        let notes = self.read(&format!("{NOTES}/calls"));
        let calls = notes.lines().filter(|line| !line.starts_with("VERSION"));
        calls.map(|line| line.rsplit_once(' ').map_or(line, |(call, _id)| call).to_owned()).collect()
    }

    /// Forgets the calls of scripts so far.
    pub fn forget_calls(&self) {
        self.host.sh(&format!("rm -f {NOTES}/*"));
    }

    /// The configuration that a script was called with; panics where it was not.
    pub fn config_of(&self, script: &str, command: &str, ifname: &str) -> Value {
        let text = self.read(&format!("{NOTES}/config-{script}-{command}-{ifname}"));
        serde_json::from_str(&text)
            .unwrap_or_else(|err| panic!("{command} {ifname} {script}: {err}: {text:?}"))
    }

    /// The `CNI_ARGS` that a script was called with.
    pub fn args_of(&self, script: &str, command: &str, ifname: &str) -> String {
        self.read(&format!("{NOTES}/args-{script}-{command}-{ifname}"))
    }

    /// Puts a NetworkAttachmentDefinition into the cluster; `name` may have a namespace before it.
    pub fn definition(&self, name: &str, config: &Value) {
        self.definition_text(name, &config.to_string());
    }

    /// As [`Self::definition`], with the configuration as text that may be none.
    pub fn definition_text(&self, name: &str, config: &str) {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        self.api.create(json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "config": config },
        }));
    }

    /// A definition whose plugin is the script `name`, which is installed.
    pub fn scripted(&self, name: &str, first: &str) {
        self.script(name, first);
        self.definition(name, &json!({ "cniVersion": "1.0.0", "name": name, "type": name }));
    }

    /// A pod in the namespace `default` with this value of the annotation for networks.
    pub fn pod(&self, name: &str, networks: &str) -> Pod<'_> {
        self.annotated_pod("default", name, &json!({ "k8s.v1.cni.cncf.io/networks": networks }))
    }

    /// A pod without annotations.
    pub fn plain_pod(&self, name: &str) -> Pod<'_> {
        self.annotated_pod("default", name, &json!({}))
    }

    /// A pod with these annotations.
    pub fn annotated_pod(&self, namespace: &str, name: &str, annotations: &Value) -> Pod<'_> {
        let metadata = json!({ "name": name, "namespace": namespace, "annotations": annotations });
        let object = self.api.create(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }));
        let uid = object["metadata"]["uid"].as_str().expect("a uid");
        self.sandbox(namespace, name, uid)
    }

    /// The sandbox of a pod, whether the cluster has an object for it or not.
    pub fn sandbox(&self, namespace: &str, name: &str, uid: &str) -> Pod<'_> {
        Pod {
            container: self.host.container(),
            node: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// A call of multus that concerns no container.
    pub fn hostwide(&self, command: &str, more: &Value) -> Outcome {
        let mut config = self.config.clone();
        for (key, value) in more.as_object().expect("an object") {
            config[key] = value.clone();
        }
        Call::new(&self.host, "multus").env("CNI_COMMAND", command).config(&config).run()
    }
}

impl Pod<'_> {
    /// Its path in the API.
    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    /// A call of multus for it, as a kubelet's runtime makes it.
    pub fn call(&self, command: &str) -> Call<'_> {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace,
            self.name,
            self.container.id(),
            self.uid
        );
        Call::new(&self.node.host, "multus")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.container.id())
            .env("CNI_NETNS", self.container.netns())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", &args)
            .config(&self.node.config)
    }

    /// ADD.
    pub fn add(&self) -> Outcome {
        self.call("ADD").run()
    }

    /// DEL.
    pub fn del(&self) -> Outcome {
        self.call("DEL").run()
    }

    /// CHECK with the result of the ADD.
    pub fn check(&self, result: &Value) -> Outcome {
        let mut config = self.node.config.clone();
        config["prevResult"] = result.clone();
        self.call("CHECK").config(&config).run()
    }

    /// The text of the annotation that multus wrote; empty where it wrote none.
    pub fn status_text(&self) -> String {
        let pod = self.node.api.object(&self.path());
        let annotation = &pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"];
        annotation.as_str().unwrap_or_default().to_owned()
    }

    /// The entries of the annotation that multus wrote.
    pub fn status(&self) -> Vec<Value> {
        let text = self.status_text();
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("no network status ({err}): {text:?}"))
    }

    /// The names of the interfaces in the status, in order.
    pub fn interfaces(&self) -> Vec<String> {
        let name = |entry: &Value| entry["interface"].as_str().unwrap_or_default().to_owned();
        self.status().iter().map(name).collect()
    }

    /// The events about it, each as `reason: message`.
    pub fn events(&self) -> Vec<String> {
        let about = |event: &&Value| {
            [&event["involvedObject"], &event["regarding"]]
                .iter()
                .any(|object| object["name"] == self.name.as_str())
        };
        let mut events = Vec::new();
        for path in ["/api/v1/events", "/apis/events.k8s.io/v1/events"] {
            for event in self.node.api.list(path).iter().filter(about) {
                let message = event["message"].as_str().or(event["note"].as_str()).unwrap_or_default();
                events.push(format!("{}: {message}", event["reason"].as_str().unwrap_or_default()));
            }
        }
        events
    }
}

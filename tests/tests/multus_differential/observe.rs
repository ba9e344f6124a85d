//! What multus does with a case.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oxcni_tests::apiserver::Role;
use oxcni_tests::{Node, Plugins, Pod};
use serde_json::{Map, Value, json};

use crate::case::{Case, Configured, Net, Place, REQUESTED, RESULTS};
use crate::faults::Fault;

/// What a script does that makes an interface, with a default route as plugins add it: before another.
const LINK: &str = "in_container link add $CNI_IFNAME type bridge && in_container addr add 10.9.0.1/24 dev $CNI_IFNAME && \
in_container link set $CNI_IFNAME up && in_container route prepend default via 10.9.0.254 dev $CNI_IFNAME";

/// A node with the objects of a case; everything that has a number or a name has the same on each.
fn node_of(case: &Case) -> (Node, Value) {
    let mut node = Node::new(Plugins::Multicall);
    node.give_role(Role::Upstream);
    for (name, result) in RESULTS {
        // Links are there for default routes, which are moved from one to another. Results before 0.3.0 have no
        // interfaces: what multus reads of such a one is that of a plugin that made none.
        let link = if result.contains("$CNI_IFNAME") { LINK } else { ":" };
        node.script(
            name,
            &format!(
                r#"echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS $config" >> /run/seen
in_container() {{ nsenter --net="$CNI_NETNS" ip "$@" 2> /dev/null; }}
[ $CNI_COMMAND != DEL ] || in_container link del $CNI_IFNAME
if [ $CNI_COMMAND = ADD ]; then
version=$(printf '%s' "$config" | grep -o '"cniVersion": *"[^"]*"' | head -n 1)
case $version in *'"0.'[34]* | *'"1.'*) {link} ;; esac
case $version in *'"0.'*) family='"version":"4",' ;; *) family= ;; esac
cat << END
{{ $version, {result} }}
END
exit 0
fi"#
            ),
        );
    }
    configure(&mut node, &case.configured);
    if case.runtime_config {
        node.configure("capabilities", json!({ "portMappings": true, "ips": true, "mac": true }));
        node.configure(
            "runtimeConfig",
            json!({ "portMappings": [{ "hostPort": 1, "containerPort": 2, "protocol": "udp" }] }),
        );
    }
    let mut names = Vec::new();
    for (number, (net, requested)) in case.selected.iter().enumerate() {
        let name = format!("net-{number}");
        node.definition(&name, &net.json(&format!("of-{name}")));
        let mut entry = Map::from_iter([("name".to_owned(), json!(name))]);
        for (key, value) in requested.iter().map(|key| REQUESTED[*key]) {
            let value = value.replace("ask0", &format!("ask{number}"));
            entry.insert(key.to_owned(), serde_json::from_str(&value).expect("JSON"));
        }
        names.push((name, Value::from(entry)));
    }
    let mut annotations = Map::new();
    if !names.is_empty() {
        let text = if case.is_short {
            names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
        } else {
            Value::from_iter(names.iter().map(|(_, entry)| entry.clone())).to_string()
        };
        annotations.insert("k8s.v1.cni.cncf.io/networks".into(), text.into());
    }
    if let Some(net) = &case.replaced {
        node.definition("kube-system/replaced", &net.json("of-replaced"));
        annotations.insert("v1.multus-cni.io/default-network".into(), "replaced".into());
    }
    (node, annotations.into())
}

/// The networks of all pods, in multus' configuration and where it names them.
fn configure(node: &mut Node, configured: &Configured) {
    match configured {
        Configured::Delegates(first, second) => {
            let mut delegates = vec![first.json("default-net")];
            delegates.extend(second.as_ref().map(|second| second.json("second-net")));
            node.configure("delegates", delegates.into());
        }
        Configured::Named(networks) => {
            let names: Vec<_> =
                networks.iter().enumerate().map(|(at, (net, place))| named(node, at, net, *place)).collect();
            node.configure("delegates", Value::Null);
            node.configure("clusterNetwork", json!(names[0]));
            node.configure("defaultNetworks", json!(names[1..]));
        }
    }
}

/// Puts a network where it is found by the returned name.
fn named(node: &Node, at: usize, net: &Net, place: Place) -> String {
    let name = format!("named-{at}");
    let config = net.json(&name);
    let extension = if config["plugins"].is_null() { "conf" } else { "conflist" };
    match place {
        Place::Definition => {
            node.definition(&format!("kube-system/{name}"), &config);
            name
        }
        Place::ConfDir => {
            node.write(&format!("/run/multus.d/{at}.{extension}"), &config.to_string());
            name
        }
        Place::File => {
            let path = format!("/run/elsewhere/{name}.{extension}");
            node.write(&path, &config.to_string());
            path
        }
        Place::Folder => {
            node.write(&format!("/run/elsewhere/{at}/file.{extension}"), &config.to_string());
            format!("/run/elsewhere/{at}")
        }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// The calls so far: command, interface, arguments and configuration.
fn calls(node: &Node) -> Vec<Value> {
    let seen = node.read("/run/seen");
    node.host.sh("rm -f /run/seen");
    let calls = seen.lines().filter(|line| !line.starts_with("VERSION")).map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (command, ifname, args, config) = (next(), next(), next(), next());
        let args: BTreeMap<&str, &str> = args.split(';').filter_map(|arg| arg.split_once('=')).collect();
        json!({ "command": command, "ifname": ifname, "args": args, "config": parsed(config) })
    });
    calls.collect()
}

/// The files of the caches.
fn files(node: &Node) -> BTreeMap<String, Value> {
    let found = node.host.sh("cd /var/lib/cni/multus 2>/dev/null && find . -type f | sort || true");
    let read = |path: &str| decoded(parsed(&node.read(&format!("/var/lib/cni/multus/{path}"))));
    found.lines().map(|path| (path.to_owned(), read(path))).collect()
}

/// A file of a cache, with its configurations as JSON and its arguments by name.
fn decoded(mut cached: Value) -> Value {
    let decode = |value: &mut Value| {
        let bytes = value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        if let Some(bytes) = bytes {
            *value = parsed(&String::from_utf8_lossy(&bytes));
        }
    };
    if let Some(delegates) = cached.as_array_mut() {
        delegates.iter_mut().for_each(|delegate| decode(&mut delegate["Bytes"]));
    } else if cached["config"].is_string() {
        decode(&mut cached["config"]);
        let args = cached["cniArgs"].as_array().cloned().unwrap_or_default();
        // Go has those of the runtime twice.
        let args = args.iter().filter_map(|arg| Some((arg[0].as_str()?.to_owned(), arg[1].clone())));
        cached["cniArgs"] = args.collect::<Map<_, _>>().into();
    }
    cached
}

/// Results, calls, caches, the status and the container's default routes, of Go's multus or of ours.
pub(crate) fn observe(case: &Case, go: Option<&PathBuf>, fault: Option<&Fault>) -> Value {
    let (node, annotations) = node_of(case);
    let namespace = if case.is_system { "kube-system" } else { "default" };
    let pod = node.annotated_pod(namespace, "p", &annotations);
    if let Some(fault) = fault {
        fault.install(&node);
    }
    let call = |command: &str| {
        let call = pod.call(command);
        match (go, fault) {
            (Some(program), _) => call.program(program),
            (None, Some(fault)) => fault.behind(call),
            (None, None) => call,
        }
        .run()
    };
    let add = call("ADD");
    if let Some(fault) = fault {
        fault.after_add(&node, &pod);
    }
    let mut observed = json!({ "add": { "ok": add.ok() }, "printed": add.to_string() });
    if add.ok() {
        let result = parsed(&add.stdout);
        observed["add"] = json!({
            "ok": true, "result": result, "status": pod.status_text(), "calls": calls(&node), "caches": files(&node),
            "default routes": default_routes(&pod),
        });
    }
    let del = call("DEL");
    observed["del"] = json!({ "ok": del.ok() });
    // A chain that failed is taken down by other calls; the texts of errors differ.
    if add.ok() {
        observed["del"]["calls"] = calls(&node).into();
        observed["del"]["caches"] = json!(files(&node));
    }
    observed
}

fn default_routes(pod: &Pod<'_>) -> Vec<String> {
    let routes = pod.container.sh("ip route show default");
    routes.lines().map(|line| line.trim().to_owned()).collect()
}

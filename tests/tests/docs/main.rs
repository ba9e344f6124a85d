//! The documentation: its links lead somewhere, its configurations work, its errors are those that
//! are printed, and every error code and page is there.

mod book;
mod pods;
mod runtimes;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use book::{anchors, blocks, commands, links, page, pages, root, with_includes};
use oxcni_tests::{Call, Host, Outcome, both_flavours, nad_config};
use serde_json::{Value, json};

/// Commands of other programs that a page shows for a device; they are not executed.
const ON_A_DEVICE: [&str; 4] = ["dnf", "systemctl", "kubectl", "oxcni install"];

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for target in links(&text).into_iter().filter(|target| !target.starts_with("https://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            let there =
                file.exists() && (anchor.is_empty() || anchors(&with_includes(&file)).contains(anchor));
            if !there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_summary_has_every_page() {
    let source = root().join("docs/src");
    let summary: BTreeSet<PathBuf> =
        links(&fs::read_to_string(source.join("SUMMARY.md")).expect("the summary"))
            .iter()
            .map(|page| source.join(page))
            .collect();
    let there: BTreeSet<PathBuf> =
        pages().into_iter().map(|(page, _)| page).filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(summary, there);
}

#[test]
fn every_error_code_has_its_entry() {
    let source = fs::read_to_string(root().join("crates/cni-core/src/spec/error.rs")).expect("the codes");
    let codes: Vec<&str> =
        source.split(": Code = Code(").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(codes.len() > 10, "the codes are declared in another way: {codes:?}");
    let page = fs::read_to_string(root().join("docs/src/codes.md")).expect("the page of codes");
    let missing: Vec<&&str> = codes.iter().filter(|code| !page.contains(&format!("\n| {code} |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_command_is_executed_or_is_one_for_a_device() {
    let executed: Vec<String> = pages().iter().flat_map(|(_, text)| blocks(text, "console")).collect();
    let shown: Vec<String> = pages()
        .iter()
        .flat_map(|(_, text)| blocks(text, "sh"))
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(!executed.is_empty() && !shown.is_empty());
    for line in &shown {
        let program = line.trim_start_matches("sudo ");
        let known = ON_A_DEVICE.iter().any(|device| program.starts_with(device))
            || ["cnictl", "dhcp leases", "ip link property add dev"]
                .iter()
                .any(|tool| program.starts_with(tool));
        assert!(known, "{line}");
    }
}

/// The complete configurations that the pages show, with the page's name.
fn configurations() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = blocks(&text, "json")
            .into_iter()
            .map(|block| serde_json::from_str(&block).unwrap_or_else(|err| panic!("{name}: {err}\n{block}")));
        found.extend(
            json.filter(|config: &Value| config["cniVersion"].is_string())
                .map(|config| (name.clone(), config)),
        );
        for block in
            blocks(&text, "yaml").iter().filter(|block| block.contains("NetworkAttachmentDefinition"))
        {
            let file = tempfile::NamedTempFile::new().expect("a file");
            fs::write(file.path(), block).expect("writing a definition");
            let (definition, config) = nad_config(file.path());
            let mut config: Value =
                serde_json::from_str(&config).unwrap_or_else(|err| panic!("{name}: {err}\n{config}"));
            if config["name"].is_null() {
                config["name"] = json!(definition);
            }
            found.push((name.clone(), config));
        }
    }
    assert!(found.len() > 10, "{found:#?}");
    found
}

/// Attaches a container to each plugin of a configuration in turn, and detaches it.
fn attach_and_detach(host: &Host, page: &str, config: &Value) {
    let pod = host.container();
    let common = json!({ "cniVersion": config["cniVersion"], "name": config["name"] });
    let plugins = config["plugins"].as_array().cloned().unwrap_or_else(|| vec![config.clone()]);
    let mut result = Value::Null;
    let calls: Vec<_> = plugins
        .into_iter()
        .map(|plugin| {
            let mut plugin = oxcni_tests::with_keys(common.clone(), plugin);
            if !result.is_null() {
                plugin["prevResult"] = result.clone();
            }
            let network = host.network(plugin);
            let added = network.add(&pod);
            assert!(added.ok(), "{page}: {config:#}\n{added}");
            result = added.result();
            network
        })
        .collect();
    for network in calls.iter().rev() {
        network.del_after(&pod, &result).succeeds();
    }
    assert!(pod.try_ip("link show eth0").is_err(), "{page}: an interface remains");
}

/// Gives the host the card that the pages name.
fn with_eth1(host: &Host) {
    host.ip("link add eth1 type veth peer name eth1-peer");
    host.ip("link set eth1 up");
    host.ip("link set eth1-peer up");
}

/// What a configuration needs that only some kernels have, or a server that other tests start.
fn needs_more(config: &Value) -> Option<&'static str> {
    let text = config.to_string();
    let kinds = ["ipvlan", "vlan", "dummy", "dhcp", "multus", "loopback"];
    let kind = kinds.into_iter().find(|kind| text.contains(&format!("\"type\":\"{kind}\"")));
    kind.or_else(|| {
        ["vlan", "macspoofchk"].into_iter().find(|key| config[key] == json!(100) || config[key] == true)
    })
}

both_flavours! {
    on_any_kernel: "what a kernel may lack is tested by the plugin's own tests";
    fn every_configuration_attaches_a_container(host) {
        with_eth1(&host);
        let mut attached = 0;
        for (page, config) in configurations() {
            if needs_more(&config).is_none() {
                attach_and_detach(&host, &page, &config);
                attached += 1;
            }
        }
        assert!(attached >= 6, "only {attached} configurations were tried");
    }

    fn the_commands_that_a_page_shows_work_in_their_order(host) {
        let text = page("tasks/by-hand.md");
        host.configure("lab.conflist", &blocks(&text, "json")[0]);
        commands(&text).iter().for_each(|command| execute(&host, command));
    }

    fn every_error_is_printed_as_its_heading_says(host) {
        with_eth1(&host);
        let page = fs::read_to_string(root().join("docs/src/troubleshooting.md")).expect("the page of errors");
        let mut headings: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for outcome in mistakes(&host) {
            let error = outcome.error();
            let text = format!("{} {}", error.msg, error.details);
            // The longest heading: one may be the beginning of another.
            let matching = headings.iter().copied().filter(|heading| text.contains(heading));
            let Some(heading) = matching.max_by_key(|heading| heading.len()) else {
                panic!("no heading, or a second mistake for one: {outcome}\nleft: {headings:#?}");
            };
            headings.remove(heading);
        }
        // The kernel at hand has every feature, or lacks another one than the next kernel.
        headings.remove("the kernel lacks this feature, or its module is not loaded");
        assert!(headings.is_empty(), "no mistake prints {headings:#?}");
    }
}

both_flavours! {
    fn a_bridge_is_connected_to_the_network(host) needs [BridgeVlan, NftBridge] {
        with_eth1(&host);
        let commands = commands(&page("tasks/uplink.md"));
        let (join_vlan, make_bridge) = commands.split_last().expect("commands");
        make_bridge.iter().for_each(|command| execute(&host, command));
        let mut pods = Vec::new();
        for (_, config) in configurations().into_iter().filter(|(page, _)| page == "uplink") {
            assert_eq!(config["bridge"], "br1");
            let pod = host.container();
            host.network(config).add(&pod).succeeds();
            pods.push(pod);
        }
        execute(&host, join_vlan);
        assert!(pods.iter().any(|pod| pod.reaches("192.168.0.60")));
    }
}

/// Runs a command that a page shows, as root of the host.
fn execute(host: &Host, command: &str) {
    match command.strip_prefix("cnictl ") {
        Some(arguments) => drop(host.cnictl(arguments).succeeds()),
        None => drop(host.sh(command)),
    }
}

/// A call for each entry of the page of errors, which fails in that way.
fn mistakes(host: &Host) -> Vec<Outcome> {
    let macvlan = |rest: Value| {
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "macvlan" })
            .as_object()
            .map(|common| oxcni_tests::with_keys(json!(common), rest))
            .expect("an object")
    };
    let bridge = |rest: Value| {
        oxcni_tests::with_keys(
            json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0" }),
            rest,
        )
    };
    let add = |config: Value| host.network(config).add(&host.container());
    let of_text = |text: &str| {
        let pod = host.container();
        Call::new(host, "bridge")
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", pod.id())
            .env("CNI_NETNS", pod.netns())
            .env("CNI_IFNAME", "eth0")
            .stdin(text)
            .run()
    };
    let in_namespace = |path: &str| {
        let config = bridge(json!({}));
        Call::new(host, "bridge")
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "c")
            .env("CNI_NETNS", path)
            .env("CNI_IFNAME", "eth0")
            .config(&config)
            .run()
    };
    let small = json!({ "ipam": { "type": "host-local", "subnet": "10.1.1.0/30" } });
    let taken = host.container();
    let attached = host.network(bridge(small.clone()));
    attached.add(&taken).succeeds();
    host.sh("ip link add br1 type bridge; ip address add 10.9.9.1/24 dev br1; touch /run/empty");
    let ipam = json!({ "type": "host-local", "subnet": "10.1.2.0/24" });
    let gateway = json!({ "bridge": "br1", "isGateway": true, "ipam": ipam });
    let multus = |rest: Value| {
        let delegate = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "bridge" });
        let common =
            json!({ "cniVersion": "1.0.0", "name": "multus", "type": "multus", "delegates": [delegate] });
        host.network(oxcni_tests::with_keys(common, rest))
            .args("K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod")
            .add(&host.container())
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod\n  namespace: default\n  uid: u\n  \
               annotations: { k8s.v1.cni.cncf.io/networks: bad }\n";
    let manifests = host.path("/run/manifests");
    fs::create_dir_all(&manifests).expect("a folder");
    fs::write(manifests.join("pod.yaml"), pod).expect("a manifest");

    let tuning = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "tuning", "sysctl": { "kernel.panic": "1" },
        "prevResult": { "cniVersion": "1.1.0" },
    });

    vec![
        add(macvlan(json!({ "master": "eth9" }))),
        add(macvlan(json!({}))),
        add(bridge(json!({ "bridge": "eth1" }))),
        add(macvlan(json!({ "master": "eth1", "ipam": { "type": "hostlocal" } }))),
        add(bridge(small)),
        add(macvlan(json!({ "master": "eth1", "ipam": { "type": "static" } }))),
        host.network(bridge(json!({}))).add(&taken),
        add(bridge(gateway)),
        add(macvlan(json!({ "master": "eth1", "mtu": 9000 }))),
        add(bridge(json!({ "vlan": 5000 }))),
        add(macvlan(json!({ "master": "eth1", "mode": "brigde" }))),
        of_text("{ \"cniVersion\": \"1.1.0\" \"name\": \"net\" }"),
        of_text("{ \"cniVersion\": \"9.9.0\", \"name\": \"net\", \"type\": \"bridge\" }"),
        add(macvlan(json!({ "master": "eth1", "ipam": { "type": "dhcp" } }))),
        multus(json!({ "manifestDir": "/run/manifests" })),
        multus(json!({ "kubeconfig": "/run/no-kubeconfig" })),
        in_namespace("/run/netns/gone"),
        in_namespace("/run/empty"),
        add(tuning),
    ]
}

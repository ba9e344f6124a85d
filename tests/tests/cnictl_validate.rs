//! `cnictl validate`: broken configurations of all kinds, and what is reported of them.

use oxcni_tests::{Host, Plugins, requirement};
use serde_json::Value;

/// What is reported of a text: for each finding line, column, message and severity.
fn findings(host: &Host, text: &str) -> Vec<(Option<u64>, Option<u64>, String, bool)> {
    let outcome = host.cnictl_call("validate - -o json").stdin(text).run();
    let findings: Vec<Value> =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|err| panic!("no JSON ({err}):\n{outcome}"));
    let is_wrong = |finding: &Value| finding["severity"] == "error";
    let expected = if findings.iter().any(is_wrong) { 3 } else { 0 };
    assert_eq!(outcome.status.code(), Some(expected), "{outcome}");
    let of = |finding: &Value| {
        let message = finding["message"].as_str().unwrap_or_default().to_owned();
        (finding["line"].as_u64(), finding["column"].as_u64(), message, is_wrong(finding))
    };
    findings.iter().map(of).collect()
}

/// A text, and the one finding that it must have: line, column, and a part of the message.
type Mistake = (String, (u64, u64), &'static str);

/// Requires of each text its finding and no other; all that differ are shown.
#[track_caller]
fn says(host: &Host, mistakes: impl IntoIterator<Item = Mistake>) {
    let mut wrong = String::new();
    for (text, (line, column), part) in mistakes {
        let found = findings(host, &text);
        let is_it = match &found[..] {
            [(l, c, message, _)] => (*l, *c) == (Some(line), Some(column)) && message.contains(part),
            _ => false,
        };
        if !is_it {
            wrong
                .push_str(&format!("expected {line}:{column} {part:?} alone of {text}\nfound {found:?}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn host(test: &str) -> Option<Host> {
    let reason = "no plugin is called, and the kernel is asked for names alone";
    requirement::met_on_any_kernel(test, &[], reason).then(|| Host::new(Plugins::Multicall))
}

#[test]
fn what_is_valid_has_no_findings() {
    let Some(host) = host("cnictl_validate::what_is_valid_has_no_findings") else { return };
    host.ip("link add eth7 type veth peer name other");
    for text in [
        r#"{"cniVersion":"1.1.0","cniVersions":["1.0.0"],"name":"n","disableGC":true,"plugins":[
            {"type":"bridge","vlanTrunk":[{"minID":1,"maxID":2}],"args":{"cni":{"mac":""}},"ipam":{"type":"host-local",
             "ranges":[[{"subnet":"10.0.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]},"dns":{"search":["x"]}},
            {"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}]}"#,
        r#"{"cniVersion":"1.0.0","name":"n","type":"macvlan","master":"eth7","ipam":{"type":"dhcp"}}"#,
        r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","capabilities":{"ipRanges":true},"ipam":{"type":"host-local"}}"#,
        r#"{"cniVersion":"1.0.0","name":"n","type":"multus","kubeconfig":"/k","delegates":[{"type":"bridge"}]}"#,
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: n\nspec:\n  config: '{\"type\":\"bridge\"}'\n",
        r#"{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"n"},"spec":{"config":"{\"type\":\"bridge\"}"}}"#,
    ] {
        assert_eq!(findings(&host, text), [], "{text}");
    }
}

#[test]
fn a_mistake_has_its_line_its_column_and_what_may_be_meant() {
    let Some(host) = host("cnictl_validate::a_mistake_has_its_line_its_column_and_what_may_be_meant") else {
        return;
    };
    host.ip("link add eth7 mtu 1400 type veth peer name other; link add br7 type bridge");
    let single = |keys: &str| format!("{{\n\"name\": \"n\", \"type\": \"bridge\",\n  {keys}\n}}");
    let macvlan = |keys: &str| format!("{{\n\"name\": \"n\", \"type\": \"macvlan\",\n  {keys}\n}}");
    says(&host, [
        ("{\n  \"name\": \"n\",\n  oops\n}".to_owned(), (3, 3), "not valid JSON"),
        ("{\"name\": \"n\", \"type\": \"bridge\"".to_owned(), (1, 30), "not valid JSON"),
        (single("\"isGatway\": true"), (3, 3), "unknown key \"isGatway\": did you mean \"isGateway\"?"),
        (single("\"isgateway\": true"), (3, 3), "is read as \"isGateway\""),
        (single("\"mtu\": \"big\""), (3, 10), "mtu"),
        (single("\"vlan\": 4095"), (1, 1), "vlan"),
        (single("\"hairpinMode\": true, \"promiscMode\": true"), (1, 1), "hairpinMode and promiscMode"),
        (single("\"subnet\": \"10.0.0.0/8\", \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.0.0.0/8\"}"), (3, 3), "it belongs in \"ipam\""),
        (single("\"ipam\": {\"type\": \"static\", \"adresses\": []}"), (3, 30), "did you mean \"addresses\"?"),
        (single("\"ipam\": {\"type\": \"host-local\"}"), (1, 1), "no IP ranges"),
        (single("\"ipam\": {\"type\": \"teleport\"}"), (3, 20), "no plugin of type \"teleport\""),
        (single("\"ipam\": {\"type\": \"macvlan\"}"), (3, 11), "not an IPAM plugin"),
        (single("\"bridge\": \"eth7\""), (3, 13), "another kind"),
        (single("\"bridge\": \"br7\", \"vlan\": 5"), (3, 28), "does not filter VLANs"),
        (macvlan("\"master\": \"eht7\""), (3, 13), "no interface \"eht7\": did you mean \"eth7\"?"),
        (macvlan("\"master\": \"eth7\", \"mtu\": 9000"), (3, 28), "larger than that of master eth7, 1400"),
        (macvlan("\"master\": \"eth7\", \"mode\": \"bride\""), (3, 29), "`private`"),
        ("{\"name\": \"../x\", \"type\": \"bridge\"}".to_owned(), (1, 1), "network name"),
        ("{\"type\": \"bridge\"}".to_owned(), (1, 1), "no name"),
        ("{\"name\": \"n\", \"cniVersion\": \"9.0.0\", \"type\": \"bridge\"}".to_owned(), (1, 1), "9.0.0"),
        ("{\"name\": \"n\", \"plugins\": []}".to_owned(), (1, 1), "\"plugins\" is empty"),
        ("{\"name\": \"n\", \"plugins\": [{}]}".to_owned(), (1, 1), "no type"),
        ("{\"name\": \"n\", \"disableChek\": true, \"plugins\": [{\"type\": \"bridge\"}]}".to_owned(), (1, 15), "disableCheck"),
        ("{\"name\": \"n\", \"type\": \"multus\", \"kubeconfig\": \"/k\",\n\"delegates\": [{\"type\": \"bridge\",\n \"vlam\": 5}]}".to_owned(), (3, 2), "did you mean \"vlan\"?"),
        ("kind: Pod\n".to_owned(), (1, 1), "neither a network configuration"),
        ("a: [\n".to_owned(), (1, 4), "not valid YAML"),
        ("[]".to_owned(), (1, 1), ""),
    ]);
}

#[test]
fn a_definition_is_looked_at_however_its_configuration_is_written() {
    let Some(host) = host("cnictl_validate::a_definition_is_looked_at_however_its_configuration_is_written")
    else {
        return;
    };
    let nad = |rest: &str| {
        format!(
            "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: n\nspec:\n{rest}"
        )
    };
    says(
        &host,
        [
            (
                nad("  config: |\n    {\n      \"type\": \"bridge\",\n      \"brigde\": \"x\"\n    }\n"),
                (9, 7),
                "did you mean \"bridge\"?",
            ),
            (
                nad("  config: |\n    {\n      \"type\": \"bridge\",\n      \"vlan\": \"x\"\n    }\n"),
                (9, 15),
                "vlan",
            ),
            (
                nad("  config: |\n    {\n      \"type\": \"bridge\",\n      oops\n    }\n"),
                (9, 7),
                "not valid JSON",
            ),
            (
                nad("  config: '{\"type\": \"bridge\", \"brigde\": \"x\"}'\n"),
                (6, 31),
                "did you mean \"bridge\"?",
            ),
            (
                nad("  config: \"{\\\"type\\\": \\\"bridge\\\", \\\"brigde\\\": \\\"x\\\"}\"\n"),
                (6, 36),
                "did you mean \"bridge\"?",
            ),
            (nad("  confg: '{}'\n  config: '{\"type\": \"bridge\"}'\n"), (6, 3), "did you mean \"config\"?"),
            (
                nad("  config: '{\"type\": \"bridge\"}'\n").replace("name: n", "name: N/"),
                (4, 9),
                "metadata.name",
            ),
            (nad("  config: '{\"type\": \"bridge\"}'\n").replace("/v1", "/v2"), (1, 1), "k8s.cni.cncf.io/v1"),
        ],
    );
    let two = format!(
        "{}---\n{}",
        nad("  config: '{\"type\":\"bridge\"}'\n"),
        nad("  config: '{\"type\":\"brige\"}'\n")
    );
    let found = findings(&host, &two);
    assert!(
        found.iter().any(|(line, _, message, _)| *line == Some(13) && message.contains("brige")),
        "{found:?}"
    );
    // A plugin of others is installed or not; its keys are not known.
    host.install_script("/run/plugins/other", "#!/bin/sh\n");
    let call = host.cnictl_call("validate -").path_before("/run/plugins");
    let outcome = call.stdin(r#"{"name":"n","type":"other","any":1}"#).run();
    assert!(outcome.ok() && outcome.stdout.contains("its keys are not known"), "{outcome}");
}

#[test]
fn files_and_networks_are_told_with_their_place() {
    let Some(host) = host("cnictl_validate::files_and_networks_are_told_with_their_place") else { return };
    host.configure("10-net.conf", "{\"name\": \"net\", \"type\": \"bridge\",\n \"isGatway\": true}");
    let outcome = host.cnictl("validate /run/cni/net.d/10-net.conf /run/cni/net.d/none");
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert!(outcome.stdout.contains("/run/cni/net.d/10-net.conf:2:2: unknown key"), "{outcome}");
    let networks = host.cnictl("networks");
    assert_eq!(networks.status.code(), Some(3), "{networks}");
    assert!(networks.stdout.contains("10-net.conf:2:2: unknown key"), "{networks}");
}

#[test]
fn files_beside_a_list_are_looked_at_too() {
    let Some(host) = host("cnictl_validate::files_beside_a_list_are_looked_at_too") else { return };
    let list = |keys: &str| format!("{{\"cniVersion\": \"1.0.0\", \"name\": \"net\", {keys}}}");
    let inlined = "\"plugins\": [{\"type\": \"bridge\"}]";
    host.configure("10-net.conflist", list("\"disableCheck\": true"));
    host.configure("20-only.conflist", list(&format!("\"loadOnlyInlinedPlugins\": true, {inlined}")));
    host.configure("net/10.conf", "{\n \"type\": \"bridge\",\n \"isGatway\": true}");
    host.configure("net/20.conf", "{\"type\": \"tuning\",\n \"mtu\": \"big\"}");
    host.configure("net/30.conf", "{\"mtu\": 1400,\n oops}");
    host.configure("net/40.conf", "{\"mtu\": 1400}");
    host.configure("net/50.conf", "{\"type\": \"teleport\"}");
    host.configure("net/60.txt", "not this");
    let outcome = host.cnictl("validate /run/cni/net.d/10-net.conflist");
    assert_eq!(outcome.status.code(), Some(3), "{outcome}");
    let expected = [
        "10.conf:3:2: unknown key \"isGatway\": did you mean \"isGateway\"?",
        "20.conf:2:9: ",
        "30.conf:2:2: not valid JSON",
        "40.conf:1:1: ",
        "50.conf:1:10: no plugin of type \"teleport\"",
    ];
    for part in expected {
        assert!(outcome.stdout.contains(&format!("/run/cni/net.d/net/{part}")), "{part}: {outcome}");
    }
    // The keys of a plugin of others are not known.
    assert_eq!(outcome.stdout.lines().count(), expected.len() + 1, "{outcome}");
    let networks = host.cnictl("networks");
    assert!(networks.stdout.contains("/run/cni/net.d/net/30.conf:2:2: "), "{networks}");
    let json: Value =
        serde_json::from_str(&host.cnictl("validate /run/cni/net.d/10-net.conflist -o json").stdout)
            .expect("JSON");
    assert_eq!(
        (&json[0]["file"], &json[0]["line"]),
        (&"/run/cni/net.d/net/10.conf".into(), &3.into()),
        "{json}"
    );

    host.cnictl("validate /run/cni/net.d/20-only.conflist").succeeds();
    host.sh("rm /run/cni/net.d/net/*.conf");
    let empty = host.cnictl("validate /run/cni/net.d/10-net.conflist");
    assert!(empty.stdout.contains("10-net.conflist:1:1: the configuration has no plugins"), "{empty}");
    host.configure("net/10.conf", "{\"type\": \"bridge\"}");
    host.cnictl("validate /run/cni/net.d/10-net.conflist").succeeds();
}

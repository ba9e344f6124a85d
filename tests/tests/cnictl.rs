//! cnictl attaches, detaches, checks, lists and collects.

use oxcni_tests::{Host, Outcome, both_flavours};
use serde_json::{Value, json};

/// A list of bridge, host-local and tuning.
fn list(name: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": name,
        "plugins": [
            { "type": "bridge", "bridge": "br0", "isGateway": true, "capabilities": { "mac": true },
              "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } },
            { "type": "tuning", "mtu": 1400 },
        ],
    })
}

fn code(outcome: &Outcome) -> i32 {
    outcome.status.code().unwrap_or(-1)
}

/// The hash of a namespace's path that cnitool makes the container ID of.
fn cnitool_id(host: &Host, path: &str) -> String {
    let hash = host.sh(&format!("printf %s {path} | sha512sum | head -c 20"));
    format!("cnitool-{hash}")
}

both_flavours! {
    fn a_namespace_is_attached_checked_listed_and_detached(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        let result = host.cnictl("add net c1 -o json").result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
        assert!(pod.reaches("10.1.2.1"));
        host.cnictl("check net c1").succeeds();

        let listed = host.cnictl_json("list");
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        let attached = &listed[0];
        assert_eq!(attached["containerID"], cnitool_id(&host, "/run/netns/c1"));
        assert_eq!(attached["addresses"], json!(["10.1.2.2/24"]));
        assert_eq!((&attached["netns"], &attached["namespace"]), (&json!("/run/netns/c1"), &json!("living")));
        let table = host.cnictl("list");
        assert!(table.stdout.contains("10.1.2.2/24") && !table.stdout.contains('\x1b'), "{table}");

        pod.ip("addr del 10.1.2.2/24 dev eth0");
        let check = host.cnictl("check net c1");
        assert_eq!(code(&check), 3, "{check}");
        assert!(check.stderr.contains("10.1.2.2"), "{check}");

        host.cnictl("del net c1").succeeds();
        assert_eq!(host.cnictl_json("list"), json!([]));
        assert!(pod.try_ip("link show eth0").is_err());
        host.cnictl("del net c1").succeeds();
    }
}

both_flavours! {
    on_any_kernel: "the same calls as above, with other parameters";

    fn a_namespace_has_a_name_a_path_or_a_process(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        host.cnictl("add net /run/../run/netns/c1 --ifname net1").succeeds();
        let mut process = pod.enter(|| std::process::Command::new("sleep").arg("600").spawn().expect("sleep"));
        let pid = process.id();
        host.cnictl(&format!("add net {pid} --ifname net2")).succeeds();
        pod.ip("link show net1; link show net2");
        host.cnictl(&format!("del net {pid} --ifname net2")).succeeds();
        host.cnictl("del net c1 --ifname net1").succeeds();
        assert!(pod.try_ip("link show net1").is_err() && pod.try_ip("link show net2").is_err());
        process.kill().and_then(|()| process.wait()).expect("ending a process");
        for unknown in ["nowhere", "/run/netns/nowhere", "4194305"] {
            let outcome = host.cnictl(&format!("add net {unknown}"));
            assert_eq!(code(&outcome), 1, "{outcome}");
            assert!(outcome.stderr.contains("does not exist"), "{outcome}");
        }
    }

    fn the_environment_is_that_of_cnitool(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        let call = host.cnictl_call("add net c1 -o json").env("CNI_IFNAME", "net7");
        let call = call.env("CNI_ARGS", "IP=10.1.2.77;IgnoreUnknown=1");
        let result = call.env("CAP_ARGS", r#"{"mac":"02:00:00:00:00:77"}"#).run().result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.77/24");
        assert!(pod.sh("ip link show net7").contains("02:00:00:00:00:77"));
        // CHECK and DEL take the parameters of ADD from the cache.
        host.cnictl("check net c1 -i net7").succeeds();
        host.cnictl("del net c1 -i net7").succeeds();
        let wrong = host.cnictl_call("add net c1").env("CAP_ARGS", "[]").run();
        assert_eq!(code(&wrong), 1, "{wrong}");
        assert!(wrong.stderr.contains("CAP_ARGS"), "{wrong}");
    }

    fn a_second_add_is_refused_and_changes_nothing(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        let again = host.cnictl("add net c1 -o json");
        assert_eq!(code(&again), 1, "{again}");
        assert!(again.error().msg.contains("attached"), "{again}");
        host.cnictl("check net c1").succeeds();
        pod.ip("link show eth0");
    }

    fn del_works_without_the_configuration_and_without_the_namespace(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        host.sh("rm /run/cni/net.d/10-net.conflist");
        pod.vanish();
        host.cnictl("del net c1").succeeds();
        assert_eq!(host.sh("ls /var/lib/cni/networks/net | grep ^10 || true"), "");
    }

    fn gc_removes_what_is_gone_and_never_what_lives(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let (living, gone) = (host.container(), host.container());
        host.cnictl("add net c1").succeeds();
        host.cnictl("add net c2").succeeds();
        // Another runtime's attachment of an older libcni, which keeps no namespace, and one of multus.
        let (old, of_multus) = (host.container(), host.container());
        host.cnictl("add net c3 --container-id old").succeeds();
        host.sh("cd /var/lib/cni/results && sed -i 's/\"netns\":\"[^\"]*\",//' net-old-eth0 && ! grep -q '\"netns\"' net-old-eth0");
        host.cnictl("add net c4 --container-id pod --cache-dir /var/lib/cni/multus").succeeds();
        gone.vanish();

        let dry = host.cnictl_json("gc net --dry-run");
        let commands: Vec<_> = dry.as_array().expect("calls").iter()
            .map(|call| call["environment"]["CNI_COMMAND"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(commands, ["DEL", "DEL", "GC", "GC"]);
        assert_eq!(dry[2]["input"]["cni.dev/valid-attachments"].as_array().map(Vec::len), Some(3), "{dry}");
        assert!(host.sh("ls /var/lib/cni/networks/net").contains("10.1.2.3"));

        let removed = host.cnictl_json("gc net");
        assert_eq!(removed["removed"].as_array().map(Vec::len), Some(1), "{removed}");
        assert_eq!(removed["removed"][0]["addresses"], json!(["10.1.2.3/24"]));
        let left = host.sh("ls /var/lib/cni/networks/net | grep ^10");
        assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["10.1.2.2", "10.1.2.4", "10.1.2.5"]);
        host.cnictl("check net c1").succeeds();
        for pod in [&living, &old, &of_multus] {
            assert!(pod.reaches("10.1.2.1"));
        }
        assert_eq!(host.cnictl_json("gc")["removed"], json!([]));
    }

    fn gc_keeps_an_attachment_of_which_nothing_says_where_its_namespace_is(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        host.cnictl("add net c1 --container-id old").succeeds();
        // As an older libcni keeps a result of an older version, which has no interfaces.
        host.sh("cd /var/lib/cni/results && sed -i 's/\"netns\":\"[^\"]*\",//; s/\"sandbox\":\"[^\"]*\"/\"sandbox\":\"\"/g' net-old-eth0
                 ! grep -q netns/c1 net-old-eth0");
        let listed = host.cnictl_json("list");
        assert_eq!((&listed[0]["namespace"], &listed[0]["netns"]), (&json!("unknown"), &Value::Null), "{listed}");
        assert!(host.cnictl("list").stdout.contains("unknown"));
        for gone in [false, true] {
            if gone {
                pod.vanish();
            }
            let dry = host.cnictl_json("gc net --dry-run");
            assert_eq!(dry[0]["environment"]["CNI_COMMAND"], "GC", "{dry}");
            assert_eq!(dry[0]["input"]["cni.dev/valid-attachments"][0]["containerID"], "old", "{dry}");
            assert_eq!(host.cnictl_json("gc net")["removed"], json!([]));
            assert!(host.sh("ls /var/lib/cni/networks/net").contains("10.1.2.2"));
            assert!(gone || pod.reaches("10.1.2.1"));
        }
        // A person who knows it to be gone detaches it.
        host.cnictl("del net c1 --container-id old").succeeds();
        assert_eq!(host.sh("ls /var/lib/cni/networks/net | grep ^10 || true"), "");
    }

    fn a_dry_run_shows_each_call_and_makes_none(host) {
        host.configure("10-net.conflist", list("net").to_string());
        let pod = host.container();
        let calls = host.cnictl_json("add net c1 --dry-run");
        assert_eq!((&calls[0]["plugin"], &calls[1]["plugin"]), (&json!("bridge"), &json!("tuning")));
        assert_eq!(calls[0]["environment"]["CNI_NETNS"], "/run/netns/c1");
        assert_eq!(calls[0]["input"]["name"], "net");
        assert!(pod.try_ip("link show eth0").is_err());
        // What it prints for people can be typed.
        let shown = host.cnictl("add net c1 --dry-run").succeeds().stdout.clone();
        let first = shown.split("# 2 of 2").next().expect("the first call").to_owned();
        let result: Value = serde_json::from_str(&host.sh(&first)).expect("a result");
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
    }

    fn networks_and_their_state_are_shown(host) {
        host.configure("10-net.conflist", list("net").to_string());
        host.configure("20-broken.conflist", "{\n  \"name\": \"x\",\n  oops\n}");
        host.configure("30-missing.conf", r#"{"cniVersion":"1.0.0","name":"missing","type":"teleport"}"#);
        let outcome = host.cnictl("networks");
        assert_eq!(code(&outcome), 3, "{outcome}");
        for part in ["net ", "bridge,tuning", "20-broken.conflist", "20-broken.conflist:3:3: ", "teleport"] {
            assert!(outcome.stdout.contains(part), "{part}: {outcome}");
        }
        let networks = host.cnictl_json("networks");
        assert_eq!(networks[0]["problems"], json!([]));
        assert_eq!(networks[2]["name"], "missing");

        host.cnictl("status net").succeeds();
        host.sh("ip link add name br0 type veth peer name other");
        let status = host.cnictl_json("status net");
        assert_eq!((&status[0]["ready"], &status[0]["code"]), (&json!(false), &json!(50)), "{status}");
    }

    fn mistakes_of_the_caller_have_exit_codes_of_their_own(host) {
        host.configure("10-net.conflist", list("net").to_string());
        for (arguments, expected) in [
            ("", 2), ("add net", 2), ("add ../net c1", 2), ("add net c1 --ifname a/b", 2), ("--help", 0),
            ("add nowhere c1", 1), ("check net c1", 3), ("list", 0),
        ] {
            let outcome = host.cnictl(arguments);
            assert_eq!(code(&outcome), expected, "{arguments}: {outcome}");
        }
        let unknown = host.cnictl("add nowhere c1");
        assert!(unknown.stderr.contains("found there: net"), "{unknown}");
        let slow = r#"{"cniVersion":"1.0.0","name":"slow","type":"slow"}"#;
        host.configure("20-slow.conf", slow);
        host.install_script("/run/slow/slow", "#!/bin/sh\nsleep 600\n");
        host.container();
        let outcome = host.cnictl("add slow c1 --timeout 1 --path /run/slow");
        assert_eq!(code(&outcome), 1, "{outcome}");
        assert!(outcome.stderr.contains("did not end within 1 s"), "{outcome}");
    }
}

/// How a shell completes `cnictl doc` by the file /run/completion. zsh does it only at a terminal, with the tab key.
const COMPLETED_BY: [(&str, &str); 3] = [
    (
        "bash",
        "bash -c '. /run/completion; COMP_WORDS=(cnictl doc); COMP_CWORD=1; _cnictl cnictl doc cnictl; echo ${COMPREPLY[@]}'",
    ),
    ("fish", "fish --no-config -c 'source /run/completion; complete -C \"cnictl doc\"'"),
    (
        "zsh",
        "cat > /run/script << 'END'\n\
         zmodload zsh/zpty\n\
         zpty shell zsh -f -i\n\
         zpty -w shell 'PROMPT=; autoload -Uz compinit; compinit -u -D; source /run/completion; compdef _cnictl cnictl; print READY'\n\
         zpty -r shell shown '*READY*READY*'\n\
         zpty -w -n shell $'cnictl doc\\t'\n\
         zpty -r shell shown '*doctor*'\n\
         print -r -- $shown\n\
         zpty -d shell\n\
         END\n\
         timeout 60 zsh -f /run/script",
    ),
];

both_flavours! {
    on_any_kernel: "no plugin is called, and the kernel is not asked";

    fn completion_and_man_pages_know_every_command(host) {
        let help = host.cnictl("--help").succeeds().stdout.clone();
        let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
        let commands: Vec<&str> = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
        assert!(commands.len() > 9 && commands.contains(&"doctor"), "{commands:?}");
        for shell in ["bash", "fish", "zsh"] {
            let script = host.cnictl(&format!("completion {shell}")).succeeds().stdout.clone();
            for command in &commands {
                assert!(script.contains(command), "{shell}: {command}");
            }
            assert!(script.contains("dry-run") && script.contains("repair"), "{shell}");
        }
        // The shells themselves take it, and complete by it.
        for (shell, complete) in COMPLETED_BY {
            let completed = host.try_sh(&format!(
                "{} completion {shell} > /run/completion; export HOME=/run\n{complete}", host.cnictl_path().display()));
            assert!(completed.as_ref().is_ok_and(|line| line.contains("doctor")), "{shell}: {completed:?}");
        }
        host.cnictl("man /run/man").succeeds();
        let pages = host.sh("ls /run/man");
        for command in &commands {
            assert!(pages.contains(&format!("cnictl-{command}.1")), "{command}: {pages}");
        }
        let page = host.sh("cat /run/man/cnictl.1 /run/man/cnictl-doctor.1");
        for part in ["Exit codes", "NETCONFPATH", "grace"] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}

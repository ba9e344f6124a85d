//! Plugins and a file system that never answers: of FUSE, whose daemon hangs.

use std::time::{Duration, Instant};

use oxcni_tests::requirement::{Feature, met};
use oxcni_tests::{both_flavours, eventually, on_node};
use serde_json::{Value, json};

const SILENT: &str = "/run/silent";

fn config(ipam: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0",
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
    });
    let keys = ipam.as_object().expect("an object").clone();
    config["ipam"].as_object_mut().expect("an object").extend(keys);
    config
}

both_flavours! {
    on_any_kernel: "FUSE is the same in all of them, and not every kernel at hand has it loaded";

    fn resolv_conf_is_given_up_and_the_plugin_ends(host) needs [Fuse] {
        let files = host.mount_silent_files(SILENT);
        let net = host.network(config(json!({ "resolvConf": format!("{SILENT}/resolv.conf") })));
        let pod = host.container();
        let begun = Instant::now();
        net.add(&pod).fails(11, &["resolv.conf", "does not answer"]);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(files.requests() > 0, "nothing was asked");
        assert_eq!(host.links(), ["lo"]);
        assert!(host.reservations("net").is_empty());
        net.del(&pod).succeeds();
    }

    /// The kernel lets a process wait for an answer even when it is killed: an operator has to end the
    /// file system. Afterwards DEL leaves nothing.
    fn a_call_that_waits_for_a_data_folder_is_undone_once_that_is_gone(host) needs [Fuse] {
        let files = host.mount_silent_files(SILENT);
        let net = host.network(config(json!({ "dataDir": format!("{SILENT}/data") })));
        let pod = host.container();
        let mut plugin = net.call("ADD", &pod).start();
        assert!(eventually(|| files.requests() > 0), "nothing was asked");
        plugin.kill().expect("killing the plugin");
        drop(files);
        plugin.wait().expect("the plugin's end");
        host.sh(&format!("umount -l {SILENT}"));
        net.del(&pod).succeeds();
        assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
        // The same network works once its folder does.
        assert_eq!(net.add_addresses(&pod), ["10.1.2.2"]);
        net.del(&pod).succeeds();
    }
}

on_node! {
    on_any_kernel: "FUSE is the same in all of them";

    fn a_pod_whose_resolv_conf_hangs_fails_and_the_next_is_attached(node) {
        if !met("a_pod_whose_resolv_conf_hangs_fails_and_the_next_is_attached", &[Feature::Fuse]) {
            return;
        }
        let _files = node.host.mount_silent_files(SILENT);
        node.definition("hangs", &config(json!({ "resolvConf": format!("{SILENT}/resolv.conf") })));
        node.definition("works", &config(json!({})));
        let (hangs, works) = (node.pod("hangs", "hangs"), node.pod("works", "works"));
        let error = hangs.add().error();
        assert!(error.text().contains("does not answer"), "{error:?}");
        hangs.del().succeeds();
        works.add().succeeds();
        works.del().succeeds();
    }
}

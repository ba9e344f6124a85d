//! Moving the default route to the network on which a pod requests it.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::{gateway, on_node};
use serde_json::json;

on_node! {
    fn the_default_route_moves_to_the_network_that_asks_for_it(node) {
        let mut default = gateway("default-net", "10.244.0.0/24");
        default["isDefaultGateway"] = json!(true);
        node.configure("delegates", json!([default]));
        node.definition("a", &gateway("net-a", "10.1.0.0/24"));
        let networks = json!([{ "name": "a", "default-route": ["10.1.0.1"] }]);
        let pod = node.pod("p", &networks.to_string());
        let result = pod.add().result();
        let routes = pod.container.sh("ip route show default");
        assert_eq!(routes.lines().count(), 1, "{routes}");
        assert!(routes.starts_with("default via 10.1.0.1 dev net1"), "{routes}");
        pod.check(&result).succeeds();
        pod.container.sh("ip route del default");
        let text = pod.check(&result).error().text();
        assert!(text.contains("0.0.0.0/0") && text.contains("default/a"), "{text}");
        pod.del().succeeds();
    }

    fn routes_of_other_tables_stay_where_the_default_route_moves(node) {
        let mut default = gateway("default-net", "10.244.0.0/24");
        default["isDefaultGateway"] = json!(true);
        default["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0", "table": 100 }]);
        node.configure("delegates", json!([default]));
        node.definition("a", &gateway("net-a", "10.1.0.0/24"));
        let pod = node.pod("p", &json!([{ "name": "a", "default-route": ["10.1.0.1"] }]).to_string());
        pod.add().succeeds();
        let main = pod.container.sh("ip route show default");
        assert!(main.starts_with("default via 10.1.0.1 dev net1") && main.lines().count() == 1, "{main}");
        let other = pod.container.sh("ip route show default table 100");
        assert!(other.starts_with("default via 10.244.0.1 dev eth0"), "{other}");
    }

    fn a_network_without_a_link_has_no_default_route_to_move(node) {
        // The default network is a script, which makes no link.
        node.definition("a", &gateway("net-a", "10.1.0.0/24"));
        let moved = |network: &str, to: &str| json!([{ "name": network, "default-route": [to] }]).to_string();
        let pod = node.pod("p", &moved("a", "10.1.0.1"));
        pod.add().succeeds();
        let routes = pod.container.sh("ip route show default");
        assert!(routes.starts_with("default via 10.1.0.1 dev net1"), "{routes}");
        pod.del().succeeds();
        node.script("empty", r#"[ $CNI_COMMAND != ADD ] || { echo '{"cniVersion":"1.0.0"}'; exit; }"#);
        node.definition("empty", &json!({ "cniVersion": "1.0.0", "name": "empty", "type": "empty" }));
        node.pod("r", &moved("empty", "10.9.0.254")).add().succeeds();
        // Without a link, nothing changes.
        node.scripted("b", "");
        let text = node.pod("q", &moved("b", "10.9.0.254")).add().error().text();
        assert!(text.contains("default-route") && text.contains("net1"), "{text}");
    }

    fn a_network_that_gives_nothing_leaves_the_default_route_where_it_is(node) {
        let mut default = gateway("default-net", "10.244.0.0/24");
        default["isDefaultGateway"] = json!(true);
        default["ipam"]["ranges"] = json!([[{ "subnet": "fd00:1::/64" }]]);
        node.configure("delegates", json!([default]));
        node.script("empty", r#"[ $CNI_COMMAND != ADD ] || { echo '{"cniVersion":"1.0.0"}'; exit; }"#);
        node.definition("empty", &json!({ "cniVersion": "1.0.0", "name": "empty", "type": "empty" }));
        for (name, gateways) in [("p", json!(["10.9.0.254"])), ("q", json!([]))] {
            let pod = node.pod(name, &json!([{ "name": "empty", "default-route": gateways }]).to_string());
            let result = pod.add().result();
            let routes = pod.container.sh("ip route show default; ip -6 route show default");
            let expected = ["default via 10.244.0.1 dev eth0", "default via fd00:1::1 dev eth0"];
            let is_expected = routes.lines().zip(expected).all(|(route, expected)| route.starts_with(expected));
            assert!(is_expected && routes.lines().count() == 2, "{routes}");
            let kept = result["routes"].to_string();
            assert!(kept.contains("0.0.0.0/0") && kept.contains("::/0"), "{result}");
            pod.check(&result).succeeds();
            pod.del().succeeds();
        }
    }

    fn a_static_default_route_of_ipv6_moves_too(node) {
        let ipv6 = |name: &str, subnet: &str, default: bool| json!({
            "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "isGateway": true,
            "isDefaultGateway": default, "ipam": { "type": "host-local", "subnet": subnet },
        });
        node.configure("delegates", json!([ipv6("default-net", "fd00:1::/64", true)]));
        node.definition("a", &ipv6("net-a", "fd00:2::/64", false));
        let networks = json!([{ "name": "a", "default-route": ["fd00:2::1"] }]);
        let pod = node.pod("p", &networks.to_string());
        pod.add().succeeds();
        let routes = pod.container.sh("ip -6 route show default");
        assert!(routes.contains("via fd00:2::1 dev net1") && !routes.contains("eth0"), "{routes}");
    }
}

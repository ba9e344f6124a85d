use cni_core::request::{Command, Environment};
use cni_core::spec::{Attachment, CniArgs, Code, NetConf, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn request(conf: &Value, args: &str) -> Request {
    let text = conf.to_string().into_bytes();
    let attachment = Attachment { container_id: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let env = Environment {
        command: Command::Add,
        attachment: Some(attachment),
        netns: None,
        args: CniArgs::parse(args).unwrap(),
        path: Vec::new(),
        netns_override: false,
    };
    Request { env, conf: NetConf::parse(&text).unwrap(), text, plugins: &[], exec: Default::default() }
}

fn conf(ipam: Value) -> Value {
    json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "ipam": ipam})
}

fn add(conf: &Value, args: &str) -> Result<Vec<String>> {
    let result = Static.add(&request(conf, args))?;
    let gateway =
        |gateway: Option<std::net::IpAddr>| gateway.map_or(String::new(), |ip| format!(" via {ip}"));
    Ok(result.ips.iter().map(|ip| format!("{}{}", ip.address, gateway(ip.gateway))).collect())
}

fn two() -> Value {
    conf(json!({
        "addresses": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }))
}

#[test]
fn configured_addresses_routes_and_dns_are_returned() {
    assert_eq!(add(&two(), "").unwrap(), ["10.1.2.3/24 via 10.1.2.1", "fd00::3/64"]);
    let result = Static.add(&request(&two(), "")).unwrap();
    assert_eq!(result.routes[0].dst.to_string(), "0.0.0.0/0");
    assert_eq!(result.dns.nameservers, ["192.0.2.53"]);
}

#[test]
fn without_addresses_the_result_has_none() {
    assert!(add(&conf(json!({})), "").unwrap().is_empty());
}

#[test]
fn cni_args_add_addresses_and_set_gateways() {
    let args = "IP=10.1.3.3/24, 10.1.4.4/24;GATEWAY=10.1.3.1,10.1.2.9,fd00::1,192.0.2.1";
    assert_eq!(
        add(&two(), args).unwrap(),
        ["10.1.2.3/24 via 10.1.2.1", "fd00::3/64", "10.1.3.3/24 via 10.1.3.1", "10.1.4.4/24"]
    );
}

#[test]
fn args_replace_addresses_and_the_runtime_replaces_those() {
    let mut conf = two();
    conf["args"] = json!({"cni": {"ips": ["10.9.9.9/8"]}});
    assert_eq!(add(&conf, "IP=10.1.3.3/24").unwrap(), ["10.9.9.9/8"]);
    conf["runtimeConfig"] = json!({"ips": ["10.8.8.8/8", "fd00::8/64"]});
    assert_eq!(add(&conf, "").unwrap(), ["10.8.8.8/8", "fd00::8/64"]);
    conf["runtimeConfig"] = json!({"ips": []});
    assert_eq!(add(&conf, "").unwrap(), ["10.9.9.9/8"]);
}

#[test]
fn what_is_replaced_is_not_validated_and_a_gateway_may_be_of_the_other_family() {
    let mut wrong = conf(json!({"addresses": [{"address": "10.1.2.3", "gateway": "gw"}]}));
    assert!(add(&wrong, "").is_err());
    wrong["runtimeConfig"] = json!({"ips": ["10.8.8.8/8"]});
    assert_eq!(add(&wrong, "").unwrap(), ["10.8.8.8/8"]);
    let other = conf(json!({"addresses": [{"address": "10.1.2.3/24", "gateway": "fd00::1"}]}));
    assert_eq!(add(&other, "").unwrap(), ["10.1.2.3/24 via fd00::1"]);
}

#[test]
fn an_error_names_the_wrong_value() {
    let with =
        |address: &str, gateway: &str| conf(json!({"addresses": [{"address": address, "gateway": gateway}]}));
    let mut runtime = two();
    runtime["runtimeConfig"] = json!({"ips": ["10.8.8.8"]});
    let mut none = two();
    none.as_object_mut().unwrap().remove("ipam");
    for (conf, args, code, message) in [
        (with("10.1.2.3", ""), "", Code::INVALID_CONFIG, "ipam.addresses[0].address: \"10.1.2.3\""),
        (with("", ""), "", Code::INVALID_CONFIG, "ipam.addresses[0].address: \"\""),
        (with("10.1.2.3/24", "gw"), "", Code::INVALID_CONFIG, "\"gw\" is not an IP address"),
        (runtime, "", Code::INVALID_CONFIG, "runtimeConfig.ips: \"10.8.8.8\""),
        (two(), "IP=10.1.2.3", Code::INVALID_ENVIRONMENT, "CNI_ARGS IP: \"10.1.2.3\""),
        (two(), "GATEWAY=x", Code::INVALID_ENVIRONMENT, "CNI_ARGS GATEWAY: \"x\""),
        (two(), "K8S=1", Code::INVALID_ENVIRONMENT, "K8S"),
        (none, "", Code::INVALID_CONFIG, "no \"ipam\""),
    ] {
        let err = add(&conf, args).unwrap_err();
        assert_eq!(err.code(), code, "{err}");
        assert!(err.to_string().contains(message), "{err}");
    }
}

#[test]
fn old_versions_have_one_address_of_each_family() {
    let mut conf = two();
    conf["cniVersion"] = "0.2.0".into();
    add(&conf, "").unwrap();
    let err = add(&conf, "IP=10.1.3.3/24").unwrap_err();
    assert_eq!(err.code(), Code::INVALID_CONFIG);
    assert!(err.msg().contains("2 IPv4 and 1 IPv6"), "{err}");
}

#[test]
fn check_finds_a_missing_address_and_another_gateway() {
    let check = |ips: Value| {
        let mut conf = two();
        conf["prevResult"] = json!({"cniVersion": "1.1.0", "ips": ips});
        Static.check(&request(&conf, ""))
    };
    let whole = json!([{"address": "fd00::3/64"}, {"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "10.7.7.7/8"}]);
    check(whole).unwrap();
    let err = check(json!([{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}])).unwrap_err();
    assert_eq!(err.code(), Code::CHECK_FAILED);
    assert!(err.msg().contains("fd00::3"), "{err}");
    let err = check(json!([{"address": "10.1.2.3/24", "gateway": "10.1.2.2"}, {"address": "fd00::3/64"}]))
        .unwrap_err();
    assert!(err.msg().contains("does not have the gateway 10.1.2.1"), "{err}");
    assert_eq!(Static.check(&request(&two(), "")).unwrap_err().code(), Code::INVALID_CONFIG);
}

#[test]
fn del_needs_no_valid_configuration() {
    Static.del(&request(&conf(json!({"addresses": 7})), "K8S=1")).unwrap();
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(address in ".{0,30}", gateway in ".{0,30}", args in ".{0,60}", member in ".{0,40}", version in 0usize..7) {
        let mut conf = conf(json!({"addresses": [{"address": address.clone(), "gateway": gateway}]}));
        conf["cniVersion"] = Version::ALL[version].as_str().into();
        conf["runtimeConfig"] = json!({"ips": [address]});
        if let Ok(member) = serde_json::from_str::<Value>(&member) {
            conf["args"] = member;
        }
        if CniArgs::parse(&args).is_ok() {
            let _ = Static.add(&request(&conf, &args));
            let _ = Static.check(&request(&conf, &args));
        }
    }

    #[test]
    fn any_bytes_as_a_configuration_are_read_or_refused(cut in 0usize..400, byte in any::<u8>()) {
        let mut text = two().to_string().into_bytes();
        text.truncate(cut);
        text.push(byte);
        if let Ok(conf) = NetConf::parse(&text) {
            let request = Request { conf, text, ..request(&two(), "") };
            let _ = Static.add(&request);
        }
    }
}

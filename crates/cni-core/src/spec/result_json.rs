//! The result of an ADD in JSON, in every version of the specification.
//!
//! | version | form |
//! |---|---|
//! | 0.1.0, 0.2.0 | `ip4` and `ip6`, each one address with its routes; no interfaces |
//! | 0.3.0 to 0.4.0 | `interfaces`, `ips` with a `version`, `routes`, `dns` |
//! | 1.0.0, 1.1.0 | the same without `version`; `mtu`, `socketPath`, `pciID` |

use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};

use super::{AddResult, Cidr, Code, Dns, Error, Interface, IpConfig, Result, Route, Version, from_json};

impl AddResult {
    /// Whether a plugin may make this the result of its ADD in a version. A result of another plugin, which
    /// is passed on, is taken as it is, as by Go's library.
    ///
    /// # Errors
    /// 0.1.0 and 0.2.0 have no form for a result without addresses.
    pub fn check_form(&self, version: Version) -> Result<()> {
        if version >= Version::V0_3_0 || !self.ips.is_empty() {
            return Ok(());
        }
        let msg = format!("cniVersion {version} has no form for a result without addresses");
        Err(Error::invalid_config(msg).details("a network without ipam needs cniVersion 0.3.0 or later"))
    }

    /// The result as JSON of a version.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_json(&self, version: Version) -> Result<String> {
        let text = if version < Version::V0_3_0 {
            serde_json::to_string(&Wire020::from_result(self, version))
        } else {
            serde_json::to_string(&Wire100::from_result(self, version))
        };
        text.map_err(|err| Error::new(Code::UNDECODABLE, format!("writing the result: {err}")))
    }

    /// Reads a result in the form of its `cniVersion`; where that is absent, in the form of the
    /// default version, that of the configuration.
    ///
    /// # Errors
    /// Invalid JSON (6), an unknown version (1), wrong types (7).
    pub fn from_json(text: &[u8], default_version: Version) -> Result<AddResult> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Versioned {
            #[serde(default)]
            cni_version: String,
        }
        let versioned: Versioned = from_json(text, "result")?;
        let version = match versioned.cni_version.as_str() {
            "" => default_version,
            text => text.parse()?,
        };
        if version < Version::V0_3_0 {
            Ok(from_json::<Wire020>(text, "result")?.into_result())
        } else {
            Ok(from_json::<Wire100>(text, "result")?.into_result())
        }
    }

    /// This result after it was written and read in a version. A caller in the same process gets
    /// what another process would have printed.
    ///
    /// # Errors
    /// As [`AddResult::to_json`].
    pub fn through(self, version: Version) -> Result<AddResult> {
        if version >= Version::V1_0_0 {
            return Ok(self);
        }
        AddResult::from_json(self.to_json(version)?.as_bytes(), version)
    }
}

/// 0.3.0 and later.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire100 {
    #[serde(default)]
    cni_version: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<WireIp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
}

/// An address, written with its `version`, which is not read: the address itself has it.
#[derive(Deserialize)]
#[serde(from = "IpConfig")]
struct WireIp {
    version: Option<String>,
    ip: IpConfig,
}

impl From<IpConfig> for WireIp {
    fn from(ip: IpConfig) -> WireIp {
        WireIp { version: None, ip }
    }
}

impl Serialize for WireIp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            version: Option<&'a str>,
            #[serde(flatten)]
            ip: &'a IpConfig,
        }
        Versioned { version: self.version.as_deref(), ip: &self.ip }.serialize(serializer)
    }
}

impl Wire100 {
    fn from_result(result: &AddResult, version: Version) -> Wire100 {
        let old = version < Version::V1_0_0;
        let family = |ip: &IpConfig| if ip.address.is_ipv4() { "4" } else { "6" }.to_owned();
        let interface = |interface: &Interface| {
            let Interface { name, mac, sandbox, .. } = interface.clone();
            if old { Interface { name, mac, sandbox, ..Interface::default() } } else { interface.clone() }
        };
        Wire100 {
            cni_version: version.as_str().to_owned(),
            interfaces: result.interfaces.iter().map(interface).collect(),
            ips: result
                .ips
                .iter()
                .map(|ip| WireIp { version: old.then(|| family(ip)), ip: ip.clone() })
                .collect(),
            routes: result.routes.clone(),
            // Up to 0.4.0 the key is always present, as callers of that time expect.
            dns: (old || !result.dns.is_empty()).then(|| result.dns.clone()),
        }
    }

    fn into_result(self) -> AddResult {
        AddResult {
            interfaces: self.interfaces,
            ips: self.ips.into_iter().map(|wire| wire.ip).collect(),
            routes: self.routes,
            dns: self.dns.unwrap_or_default(),
        }
    }
}

/// 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire020 {
    #[serde(default)]
    cni_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Wire020Ip>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Wire020Ip>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Wire020Ip {
    ip: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Wire020Route>,
}

#[derive(Serialize, Deserialize)]
struct Wire020Route {
    dst: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

impl Wire020 {
    /// The first address of each family with the routes of that family. There is no form for more.
    fn from_result(result: &AddResult, version: Version) -> Wire020 {
        let of_family = |v4: bool| {
            let ip = result.ips.iter().find(|ip| ip.address.is_ipv4() == v4)?;
            let routes = result.routes.iter().filter(|route| route.dst.is_ipv4() == v4);
            Some(Wire020Ip {
                ip: ip.address,
                gateway: ip.gateway,
                routes: routes.map(|route| Wire020Route { dst: route.dst, gw: route.gw }).collect(),
            })
        };
        let (ip4, ip6) = (of_family(true), of_family(false));
        Wire020 { cni_version: version.as_str().to_owned(), ip4, ip6, dns: result.dns.clone() }
    }

    fn into_result(self) -> AddResult {
        let mut result = AddResult { dns: self.dns, ..AddResult::default() };
        for ip in [self.ip4, self.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { interface: None, address: ip.ip, gateway: ip.gateway });
            result.routes.extend(ip.routes.into_iter().map(|route| Route::new(route.dst, route.gw)));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> AddResult {
        let text = br#"{"cniVersion":"1.1.0",
            "interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},
                          {"name":"eth0","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/run/netns/x","socketPath":"/s","pciID":"0000:00:1f.6"}],
            "ips":[{"interface":1,"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"interface":1,"address":"fd00::5/64"}],
            "routes":[{"dst":"0.0.0.0/0"},{"dst":"fd01::/64","gw":"fd00::1","mtu":1300,"advmss":1260,"priority":7,"table":100,"scope":253}],
            "dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["s"],"options":["o"]}}"#;
        AddResult::from_json(text, Version::NEWEST).unwrap()
    }

    #[test]
    fn the_newest_form_loses_nothing() {
        let text = full().to_json(Version::V1_1_0).unwrap();
        for part in
            ["\"mtu\":1400", "socketPath", "pciID", "\"table\":100", "\"scope\":253", "\"priority\":7"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(AddResult::from_json(text.as_bytes(), Version::NEWEST).unwrap(), full());
    }

    #[test]
    fn the_middle_form_has_a_version_for_each_address() {
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            let text = full().to_json(version).unwrap();
            assert!(
                text.contains(
                    r#"{"version":"4","interface":1,"address":"10.1.0.5/16","gateway":"10.1.0.1"}"#
                ),
                "{text}"
            );
            assert!(!text.contains("pciID") && !text.contains("1400"), "{text}");
            assert_eq!(full().through(version).unwrap().ips, full().ips);
        }
        assert!(AddResult::default().to_json(Version::V0_4_0).unwrap().contains(r#""dns":{}"#));
        assert!(!AddResult::default().to_json(Version::V1_0_0).unwrap().contains("dns"));
    }

    #[test]
    fn the_old_form_keeps_one_address_a_family() {
        let text = full().to_json(Version::V0_2_0).unwrap();
        let expected = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64","routes":[{"dst":"fd01::/64","gw":"fd00::1"}]},"dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["s"],"options":["o"]}}"#;
        assert_eq!(text, expected);
        let back = AddResult::from_json(text.as_bytes(), Version::NEWEST).unwrap();
        assert_eq!(back.ips.len(), 2);
        assert_eq!(back.routes.len(), 2);
        assert!(AddResult::default().check_form(Version::V0_2_0).is_err());
        let passed_on = AddResult::default().through(Version::V0_1_0).unwrap();
        assert_eq!(passed_on, AddResult::default());
    }

    #[test]
    fn results_of_others_are_read_as_the_go_library_reads_them() {
        let text = br#"{"cniVersion":"0.4.0","Interfaces":[{},{"NAME":"eth0"}],
            "ips":[{"interface":9,"address":"10.0.0.1/8"},{"interface":-1,"address":"10.0.0.2/8"},
                   {"version":4,"address":"::ffff:10.0.0.3/104","gateway":"::ffff:10.0.0.9"}],
            "routes":[{"DST":"::ffff:10.9.0.0/112","gw":"::ffff:10.0.0.8"}],"dns":null}"#;
        let result = AddResult::from_json(text, Version::NEWEST).unwrap();
        let names: Vec<_> = result.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!(names, ["", "eth0"]);
        assert_eq!(result.ips.iter().map(|ip| ip.interface).collect::<Vec<_>>(), [Some(9), None, None]);
        assert_eq!(result.ips[2].address.to_string(), "10.0.0.3/8");
        assert_eq!(result.ips[2].gateway.unwrap().to_string(), "10.0.0.9");
        assert_eq!(result.routes[0].dst.to_string(), "10.9.0.0/16");
        assert_eq!(result.routes[0].gw.unwrap().to_string(), "10.0.0.8");
        let text = result.to_json(Version::V1_0_0).unwrap();
        assert!(text.contains(r#""interface":9"#) && !text.contains("version\":4"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", version in 0usize..7) {
            let _ = AddResult::from_json(text.as_bytes(), Version::ALL[version]);
        }

        #[test]
        fn reading_and_writing_agree(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), prefix in 0u8..=32, version in 2usize..7) {
            let ip = |ip: IpAddr| IpConfig { interface: None, address: Cidr::new(ip, prefix).unwrap(), gateway: None };
            let result = AddResult { ips: vec![ip(v4.into()), ip(v6.into())], ..AddResult::default() };
            let text = result.to_json(Version::ALL[version]).unwrap();
            prop_assert_eq!(AddResult::from_json(text.as_bytes(), Version::NEWEST).unwrap(), result);
        }
    }
}

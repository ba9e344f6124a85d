//! The configuration of a bridge network.

use std::ops::RangeInclusive;

use cni_core::interface::MacSource::{Args, Config};
use cni_core::interface::asked_mac;
use cni_core::netlink::BridgeVlan;
use cni_core::request::Request;
use cni_core::spec::{Error, IfName, Mac, Result};
use serde::Deserialize;

/// The largest VLAN id that IEEE 802.1Q leaves for use.
const VLAN_MAX: i64 = 4094;

/// What the kernel takes as the MTU of bridges and veth pairs, in bytes (`ETH_MIN_MTU` and
/// `ETH_MAX_MTU` in include/uapi/linux/if_ether.h).
const MTU: RangeInclusive<u32> = 68..=65535;

/// The plugin's own keys; README.md of this crate explains each.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names are those of the configuration
pub struct BridgeConf {
    #[serde(default = "default_bridge")]
    pub bridge: IfName,
    #[serde(default)]
    pub is_gateway: bool,
    #[serde(default)]
    pub is_default_gateway: bool,
    #[serde(default)]
    pub force_address: bool,
    #[serde(default)]
    pub ip_masq: bool,
    #[serde(default)]
    pub ip_masq_backend: Option<IpMasqBackend>,
    #[serde(default)]
    pub mtu: u32,
    #[serde(default)]
    pub hairpin_mode: bool,
    #[serde(default)]
    pub promisc_mode: bool,
    #[serde(default)]
    pub vlan: i64,
    #[serde(default)]
    pub vlan_trunk: Option<Vec<VlanTrunk>>,
    #[serde(default)]
    pub preserve_default_vlan: bool,
    #[serde(default)]
    pub macspoofchk: bool,
    #[serde(default)]
    pub enabledad: bool,
    #[serde(default)]
    pub disable_container_interface: bool,
    #[serde(default)]
    pub port_isolation: bool,
    #[serde(default)]
    args: GivenArgs,
    #[serde(default)]
    runtime_config: MacHolder,
    /// The MAC address that was asked for.
    #[serde(skip)]
    pub mac: Option<Mac>,
    /// The VLANs of the port.
    #[serde(skip)]
    pub vlans: Vec<BridgeVlan>,
}

/// What masquerades.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum IpMasqBackend {
    Iptables,
    Nftables,
}

/// Tagged VLANs of a port: one `id`, or all from `minID` to `maxID`, or both.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct VlanTrunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct GivenArgs {
    #[serde(default)]
    cni: MacHolder,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct MacHolder {
    #[serde(default)]
    mac: String,
}

fn default_bridge() -> IfName {
    "cni0".parse().expect("a valid name")
}

impl BridgeConf {
    /// Checks what the types can't, and takes in `CNI_ARGS`.
    pub(crate) fn validate(&mut self, request: &Request) -> Result<()> {
        let args = &request.env.args;
        args.only(&["MAC"])?;
        self.mac = asked_mac(&[Args(args), Config(&self.args.cni.mac), Config(&self.runtime_config.mac)])?;
        self.is_gateway |= self.is_default_gateway;
        if self.mtu != 0 && !MTU.contains(&self.mtu) {
            let (least, most) = (MTU.start(), MTU.end());
            return Err(Error::invalid_config(format!("mtu {} is not between {least} and {most}", self.mtu)));
        }
        if self.hairpin_mode && self.promisc_mode {
            return Err(Error::invalid_config("hairpinMode and promiscMode cannot both be true")
                .details("either one lets a container reach itself through the bridge"));
        }
        if self.disable_container_interface && request.conf.ipam.is_some() {
            return Err(Error::invalid_config("disableContainerInterface cannot be true together with ipam")
                .details("an interface that stays down has no use for addresses"));
        }
        self.vlans = port_vlans(self.vlan, self.vlan_trunk.as_deref())?;
        if self.is_gateway && self.vlan != 0 {
            self.gateway_name()?;
        }
        Ok(())
    }

    /// The MTU in bytes, `None` for the kernel's default.
    pub(crate) fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }

    /// Whether the bridge must keep VLANs apart.
    pub(crate) fn wants_vlans(&self) -> bool {
        self.vlan != 0 || self.vlan_trunk.is_some()
    }

    pub(crate) fn wants_iptables(&self) -> bool {
        self.ip_masq_backend == Some(IpMasqBackend::Iptables)
    }

    /// The interface of the host that has the gateway's address: the bridge itself, or with a
    /// VLAN one that is in that VLAN only.
    pub(crate) fn gateway_name(&self) -> Result<IfName> {
        if self.vlan == 0 {
            return Ok(self.bridge.clone());
        }
        let name = format!("{}.{}", self.bridge, self.vlan);
        name.parse().map_err(|err: Error| {
            Error::invalid_config(format!(
                "the interface for the gateway of VLAN {}: {}",
                self.vlan,
                err.msg()
            ))
            .details("choose a shorter name for \"bridge\"")
        })
    }
}

/// The VLANs of a port: the trunk's tagged, and last the one of untagged frames, which is
/// `vlan`, or with a trunk alone VLAN 1. A VLAN is the one or the other: where the trunk has that
/// of untagged frames too, it goes untagged.
fn port_vlans(vlan: i64, trunk: Option<&[VlanTrunk]>) -> Result<Vec<BridgeVlan>> {
    let native = if vlan == 0 { 1 } else { vlan_id("vlan", vlan)? };
    let mut vlans = Vec::new();
    let mut tag = |first: u16, last: u16| {
        if native < first || last < native {
            return vlans.push(BridgeVlan::tagged(first, last));
        }
        if first < native {
            vlans.push(BridgeVlan::tagged(first, native - 1));
        }
        if native < last {
            vlans.push(BridgeVlan::tagged(native + 1, last));
        }
    };
    let trunk = trunk.unwrap_or_default();
    for item in trunk {
        match (item.min_id, item.max_id) {
            (Some(min), Some(max)) => {
                let (first, last) = (vlan_id("vlanTrunk minID", min)?, vlan_id("vlanTrunk maxID", max)?);
                if first > last {
                    return Err(Error::invalid_config(format!(
                        "vlanTrunk minID {min} is greater than its maxID {max}"
                    )));
                }
                tag(first, last);
            }
            (None, None) => {}
            (Some(min), None) => {
                return Err(Error::invalid_config(format!("vlanTrunk has minID {min} without a maxID")));
            }
            (None, Some(max)) => {
                return Err(Error::invalid_config(format!("vlanTrunk has maxID {max} without a minID")));
            }
        }
        if let Some(id) = item.id {
            let id = vlan_id("vlanTrunk id", id)?;
            tag(id, id);
        }
    }
    if vlan != 0 || !trunk.is_empty() {
        vlans.push(BridgeVlan::access(native));
    }
    Ok(vlans)
}

fn vlan_id(key: &str, id: i64) -> Result<u16> {
    let in_range = (1..=VLAN_MAX).contains(&id).then(|| u16::try_from(id).ok()).flatten();
    in_range.ok_or_else(|| {
        Error::invalid_config(format!("{key} {id} is not a VLAN id"))
            .details(format!("VLAN ids go from 1 to {VLAN_MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vlans(json: &str) -> Result<Vec<BridgeVlan>> {
        let conf: BridgeConf = serde_json::from_str(json).unwrap();
        port_vlans(conf.vlan, conf.vlan_trunk.as_deref())
    }

    #[test]
    fn a_vlan_is_untagged_and_a_trunk_is_tagged() {
        let (access, tagged) = (BridgeVlan::access, BridgeVlan::tagged);
        assert_eq!(vlans("{}").unwrap(), []);
        assert_eq!(vlans(r#"{"vlanTrunk": []}"#).unwrap(), []);
        assert_eq!(vlans(r#"{"vlan": 7}"#).unwrap(), [access(7)]);
        let trunk = r#""vlanTrunk": [{"id": 5}, {"minID": 10, "maxID": 20, "id": 30}]"#;
        let expected = [tagged(5, 5), tagged(10, 20), tagged(30, 30)];
        assert_eq!(vlans(&format!("{{{trunk}}}")).unwrap(), [&expected[..], &[access(1)]].concat());
        assert_eq!(
            vlans(&format!(r#"{{"vlan": 7, {trunk}}}"#)).unwrap(),
            [&expected[..], &[access(7)]].concat()
        );
    }

    #[test]
    fn the_vlan_of_untagged_frames_is_never_tagged() {
        let (access, tagged) = (BridgeVlan::access, BridgeVlan::tagged);
        for (json, expected) in [
            (r#"{"vlanTrunk": [{"minID": 1, "maxID": 4094}]}"#, vec![tagged(2, 4094), access(1)]),
            (r#"{"vlanTrunk": [{"id": 1}]}"#, vec![access(1)]),
            (
                r#"{"vlan": 100, "vlanTrunk": [{"minID": 90, "maxID": 110}]}"#,
                vec![tagged(90, 99), tagged(101, 110), access(100)],
            ),
            (
                r#"{"vlan": 4094, "vlanTrunk": [{"minID": 4093, "maxID": 4094}]}"#,
                vec![tagged(4093, 4093), access(4094)],
            ),
            (r#"{"vlan": 5, "vlanTrunk": [{"id": 5}, {"id": 1}]}"#, vec![tagged(1, 1), access(5)]),
        ] {
            assert_eq!(vlans(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn vlans_that_make_no_sense_are_quoted() {
        for (json, quoted) in [
            (r#"{"vlan": 4095}"#, "4095"),
            (r#"{"vlan": -1}"#, "-1"),
            (r#"{"vlanTrunk": [{"id": 0}]}"#, "id 0"),
            (r#"{"vlanTrunk": [{"minID": 20, "maxID": 10}]}"#, "minID 20 is greater than its maxID 10"),
            (r#"{"vlanTrunk": [{"minID": 20}]}"#, "minID 20 without"),
            (r#"{"vlanTrunk": [{"maxID": 70000}]}"#, "maxID 70000 without"),
        ] {
            let error = vlans(json).unwrap_err();
            assert!(error.msg().contains(quoted), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_vlan_ids_are_taken_or_refused(vlan in any::<i64>(), min in any::<Option<i64>>(), max in any::<Option<i64>>(), id in any::<Option<i64>>()) {
            if let Ok(vlans) = port_vlans(vlan, Some(&[VlanTrunk { min_id: min, max_id: max, id }])) {
                prop_assert!(vlans.iter().all(|vlan| vlan.first >= 1 && vlan.first <= vlan.last && vlan.last <= 4094));
                let (native, tagged) = vlans.split_last().expect("the VLAN of untagged frames");
                prop_assert!(native.pvid && native.untagged && native.first == native.last);
                prop_assert!(tagged.iter().all(|vlan| native.first < vlan.first || vlan.last < native.first));
            }
        }
    }
}

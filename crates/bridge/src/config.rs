//! The configuration of a bridge network.

use std::ops::RangeInclusive;

use cni_core::interface::MacSource::{Args, Config};
use cni_core::interface::requested_mac;
use cni_core::netlink::{BridgePort, BridgeVlan};
use cni_core::request::Request;
use cni_core::spec::{CniArgs, Error, IfName, Mac, Result};
use serde::Deserialize;

/// The largest VLAN ID that IEEE 802.1Q permits.
const VLAN_MAX: i64 = 4094;

/// What the kernel takes as the MTU of bridges and veth pairs, in bytes (`ETH_MIN_MTU` and
/// `ETH_MAX_MTU` in include/uapi/linux/if_ether.h).
const MTU: RangeInclusive<i64> = 68..=65535;

/// The plugin's own keys as they are written; README.md of this crate explains each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keys {
    #[serde(default = "default_bridge")]
    bridge: IfName,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    force_address: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    ip_masq_backend: String,
    #[serde(default)]
    mtu: i64,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    promisc_mode: bool,
    #[serde(default)]
    vlan: i64,
    #[serde(default)]
    vlan_trunk: Option<Vec<VlanTrunk>>,
    #[serde(default)]
    preserve_default_vlan: bool,
    #[serde(default)]
    macspoofchk: bool,
    #[serde(default)]
    enabledad: bool,
    #[serde(default)]
    disable_container_interface: bool,
    #[serde(default)]
    port_isolation: bool,
    #[serde(default)]
    args: ConfArgs,
    #[serde(default)]
    runtime_config: MacKey,
}

/// Tagged VLANs of a port: one `id`, or all from `minID` to `maxID`, or both.
#[derive(Clone, Copy, Debug, Deserialize)]
struct VlanTrunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct ConfArgs {
    #[serde(default)]
    cni: MacKey,
}

#[derive(Debug, Default, Deserialize)]
struct MacKey {
    #[serde(default)]
    mac: String,
}

fn default_bridge() -> IfName {
    "cni0".parse().expect("a valid name")
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct BridgeConf {
    /// The bridge's name.
    pub bridge: IfName,
    /// The interface of the host that has the gateways' addresses, if the host is the gateway: the
    /// bridge itself, or with a VLAN an interface that is in that VLAN only.
    pub gateway: Option<IfName>,
    /// Whether the container gets a default route through the gateway.
    pub is_default_gateway: bool,
    /// Whether the gateway's address replaces another one of the bridge.
    pub force_address: bool,
    /// Whether packets that leave the network are masqueraded.
    pub ip_masq: bool,
    /// Whether masquerading by iptables is configured.
    pub wants_iptables: bool,
    /// MTU in bytes, `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// What the bridge does with the port.
    pub port: BridgePort,
    /// Whether the bridge is promiscuous.
    pub promisc_mode: bool,
    /// The VLAN of untagged frames, if one is configured.
    pub vlan: Option<u16>,
    /// Whether the bridge filters VLANs.
    pub filters_vlans: bool,
    /// The VLANs of the port; the last one is that of untagged frames.
    pub vlans: Vec<BridgeVlan>,
    /// Whether the trunk has the VLAN of untagged frames, too: the Go plugin leaves it tagged then.
    pub native_in_trunk: bool,
    /// Whether the port stays in the bridge's default VLAN.
    pub preserve_default_vlan: bool,
    /// Whether the container may only send with its own MAC address.
    pub macspoofchk: bool,
    /// Whether duplicate IPv6 addresses are detected.
    pub enabledad: bool,
    /// Whether the container's interface stays down.
    pub disable_container_interface: bool,
    /// The requested MAC address.
    pub mac: Option<Mac>,
}

impl BridgeConf {
    /// Reads the configuration of a request.
    pub(crate) fn parse(request: &Request) -> Result<BridgeConf> {
        let args = &request.env.args;
        args.only(&["MAC"])?;
        BridgeConf::of(request.parse_conf()?, args, request.conf.ipam.is_some())
    }

    fn of(keys: Keys, args: &CniArgs, has_ipam: bool) -> Result<BridgeConf> {
        // The Go plugin ignores a negative one, too.
        let mtu = Some(keys.mtu).filter(|mtu| *mtu > 0);
        if let Some(mtu) = mtu.filter(|mtu| !MTU.contains(mtu)) {
            let (least, most) = (MTU.start(), MTU.end());
            return Err(Error::invalid_config(format!("mtu {mtu} is not between {least} and {most}")));
        }
        let wants_iptables = match keys.ip_masq_backend.as_str() {
            "" | "nftables" => false,
            "iptables" => true,
            _ if !keys.ip_masq => false,
            other => {
                return Err(Error::invalid_config(format!("ipMasqBackend {other:?} is unknown"))
                    .details("it is \"nftables\", or \"iptables\", for which nftables is used too"));
            }
        };
        if keys.hairpin_mode && keys.promisc_mode {
            return Err(Error::invalid_config("hairpinMode and promiscMode cannot both be true")
                .details("either one lets a container reach itself through the bridge"));
        }
        if keys.disable_container_interface && has_ipam {
            return Err(Error::invalid_config("disableContainerInterface cannot be true together with ipam")
                .details("an interface that stays down has no use for addresses"));
        }
        let (vlans, native_in_trunk) = port_vlans(keys.vlan, keys.vlan_trunk.as_deref())?;
        let vlan = vlans.last().map(|native| native.first).filter(|_| keys.vlan != 0);
        let is_gateway = keys.is_gateway || keys.is_default_gateway;
        Ok(BridgeConf {
            // Without addresses there is no gateway, and a name for it can't be too long.
            gateway: (is_gateway && has_ipam).then(|| gateway_name(&keys.bridge, vlan)).transpose()?,
            bridge: keys.bridge,
            is_default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            ip_masq: keys.ip_masq,
            wants_iptables,
            mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()),
            port: BridgePort { hairpin: keys.hairpin_mode, isolated: keys.port_isolation },
            promisc_mode: keys.promisc_mode,
            vlan,
            filters_vlans: keys.vlan != 0 || keys.vlan_trunk.is_some(),
            vlans,
            native_in_trunk,
            preserve_default_vlan: keys.preserve_default_vlan,
            macspoofchk: keys.macspoofchk,
            enabledad: keys.enabledad,
            disable_container_interface: keys.disable_container_interface,
            mac: requested_mac(&[Args(args), Config(&keys.args.cni.mac), Config(&keys.runtime_config.mac)])?,
        })
    }
}

/// The interface of the host for the gateway's address.
fn gateway_name(bridge: &IfName, vlan: Option<u16>) -> Result<IfName> {
    let Some(vlan) = vlan else { return Ok(bridge.clone()) };
    format!("{bridge}.{vlan}").parse().map_err(|err: Error| {
        Error::invalid_config(format!("the interface for the gateway of VLAN {vlan}: {}", err.msg()))
            .details("choose a shorter name for \"bridge\"")
    })
}

/// The VLANs of a port: those of the trunk are tagged, and the last one is that of untagged frames:
/// `vlan`, or VLAN 1 with a trunk alone. A VLAN that is both is untagged. Each VLAN comes once,
/// however often it is configured: the kernel gets one message for each range. Also returns whether
/// the trunk has `vlan`.
fn port_vlans(vlan: i64, trunk: Option<&[VlanTrunk]>) -> Result<(Vec<BridgeVlan>, bool)> {
    let native = if vlan == 0 { 1 } else { vlan_id("vlan", vlan)? };
    let mut trunk_ids = [false; VLAN_MAX as usize + 1];
    for item in trunk.unwrap_or_default() {
        match (item.min_id, item.max_id) {
            (Some(min), Some(max)) => {
                let (first, last) = (vlan_id("vlanTrunk minID", min)?, vlan_id("vlanTrunk maxID", max)?);
                if first > last {
                    return Err(Error::invalid_config(format!(
                        "vlanTrunk minID {min} is greater than its maxID {max}"
                    )));
                }
                trunk_ids[usize::from(first)..=usize::from(last)].fill(true);
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
            trunk_ids[usize::from(vlan_id("vlanTrunk id", id)?)] = true;
        }
    }
    if vlan == 0 && !trunk_ids.contains(&true) {
        return Ok((Vec::new(), false));
    }
    let native_in_trunk = std::mem::take(&mut trunk_ids[usize::from(native)]) && vlan != 0;
    let mut vlans: Vec<BridgeVlan> = Vec::new();
    for id in (1u16..).zip(&trunk_ids[1..]).filter_map(|(id, tagged)| tagged.then_some(id)) {
        match vlans.last_mut() {
            Some(range) if range.last + 1 == id => range.last = id,
            _ => vlans.push(BridgeVlan::tagged(id, id)),
        }
    }
    vlans.push(BridgeVlan::access(native));
    Ok((vlans, native_in_trunk))
}

fn vlan_id(key: &str, id: i64) -> Result<u16> {
    let in_range = (1..=VLAN_MAX).contains(&id).then(|| u16::try_from(id).ok()).flatten();
    in_range.ok_or_else(|| {
        Error::invalid_config(format!("{key} {id} is not a VLAN ID"))
            .details(format!("VLAN IDs go from 1 to {VLAN_MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vlans(json: &str) -> Result<Vec<BridgeVlan>> {
        let keys: Keys = serde_json::from_str(json).unwrap();
        port_vlans(keys.vlan, keys.vlan_trunk.as_deref()).map(|(vlans, _)| vlans)
    }

    #[test]
    fn a_vlan_is_untagged_and_a_trunk_is_tagged() {
        let (access, tagged) = (BridgeVlan::access, BridgeVlan::tagged);
        assert_eq!(vlans("{}").unwrap(), []);
        assert_eq!(vlans(r#"{"vlanTrunk": []}"#).unwrap(), []);
        // As with the Go plugin, the port stays in the bridge's default VLAN.
        assert_eq!(vlans(r#"{"vlanTrunk": [{}]}"#).unwrap(), []);
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

    #[test]
    fn a_vlan_that_is_configured_many_times_is_there_once() {
        let many = vec![r#"{"minID": 2, "maxID": 4094, "id": 7}"#; 50_000].join(",");
        let expected = [BridgeVlan::tagged(2, 4094), BridgeVlan::access(1)];
        assert_eq!(vlans(&format!(r#"{{"vlanTrunk": [{many}]}}"#)).unwrap(), expected);
        let mixed =
            r#"{"vlanTrunk": [{"id": 9}, {"id": 8}, {"minID": 5, "maxID": 7}, {"id": 9}, {"id": 11}]}"#;
        let (tagged, access) = (BridgeVlan::tagged, BridgeVlan::access);
        assert_eq!(vlans(mixed).unwrap(), [tagged(5, 9), tagged(11, 11), access(1)]);
    }

    proptest! {
        #[test]
        fn any_vlan_ids_are_taken_or_refused(vlan in any::<i64>(), min in any::<Option<i64>>(), max in any::<Option<i64>>(), id in any::<Option<i64>>()) {
            if let Ok((vlans, _)) = port_vlans(vlan, Some(&[VlanTrunk { min_id: min, max_id: max, id }])) {
                prop_assert!(vlans.iter().all(|vlan| vlan.first >= 1 && vlan.first <= vlan.last && vlan.last <= 4094));
                let Some((native, tagged)) = vlans.split_last() else {
                    prop_assert!(vlan == 0 && min.is_none() && max.is_none() && id.is_none());
                    return Ok(());
                };
                prop_assert!(native.pvid && native.untagged && native.first == native.last);
                prop_assert!(tagged.iter().all(|vlan| native.first < vlan.first || vlan.last < native.first));
            }
        }
    }
}

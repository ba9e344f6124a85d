//! A network that a pod is attached to, and how its plugins are called for that.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_core::request::Request;
use cni_core::spec::{Attachment, CniArgs, Error, IfName, Result};
use cni_runtime::{CapabilityArgs, Invocation, NetworkConf};
use serde_json::Value;

use crate::annotation::{Bandwidth, PortMapping, Selection};
use crate::device::info;

/// One network of a pod. The first is the master: it has the interface that the runtime
/// asked for, and its result is returned.
#[derive(Clone, Debug)]
pub struct Delegate {
    /// The network.
    pub network: NetworkConf,
    /// What the status and events call it: `namespace/definition`, or the network's name.
    pub label: String,
    /// What the pod asks of it.
    pub asked: Asked,
    /// Whether its default routes are taken away, for IPv4 and IPv6.
    pub filtered: Families,
    /// The device to attach, from a device plugin or the annotation.
    pub device: Option<Device>,
    /// Whether it is the default network, of which a pod asks nothing as capability arguments.
    pub is_default: bool,
}

/// What a pod asks of a network.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Asked {
    /// The name of the interface.
    pub ifname: Option<IfName>,
    /// The hardware address.
    pub mac: Option<String>,
    /// The GUID of an InfiniBand interface.
    pub infiniband_guid: Option<String>,
    /// Addresses.
    pub ips: Vec<String>,
    /// Ports of the host.
    pub port_mappings: Vec<PortMapping>,
    /// Limits of the traffic.
    pub bandwidth: Option<Bandwidth>,
    /// Gateways of the default routes, see [`Selection::default_route`].
    pub gateways: Option<Vec<IpAddr>>,
}

/// One flag for each family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// The flag of the family that an address has.
    pub fn of(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Whether either is set.
    pub fn any(self) -> bool {
        self.v4 || self.v6
    }
}

/// A device of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its id, the address on the PCI bus for one.
    pub id: String,
    /// The resource that a device plugin offers it as; empty where the annotation named it.
    pub resource: String,
}

/// Where a plugin leaves what it knows of the device of an attachment.
pub fn device_info_path(invocation: &Invocation) -> Option<PathBuf> {
    invocation.capability_args.get("CNIDeviceInfoFile").and_then(Value::as_str).map(PathBuf::from)
}

impl Delegate {
    /// A network of the configuration, of which no pod asks anything.
    pub fn configured(network: NetworkConf) -> Delegate {
        Delegate {
            label: network.name().to_string(),
            network,
            asked: Asked::default(),
            filtered: Families::default(),
            device: None,
            is_default: false,
        }
    }

    /// A network that a pod selected.
    pub fn selected(network: NetworkConf, selection: &Selection) -> Delegate {
        let device = selection.device_id.clone().map(|id| Device { id, resource: String::new() });
        Delegate {
            network,
            label: format!("{}/{}", selection.namespace, selection.name),
            asked: Asked {
                ifname: selection.interface.clone(),
                mac: selection.mac.clone(),
                infiniband_guid: selection.infiniband_guid.clone(),
                ips: selection.ips.clone(),
                port_mappings: selection.port_mappings.clone(),
                bandwidth: selection.bandwidth.clone(),
                gateways: selection.default_route.clone(),
            },
            filtered: Families::default(),
            device,
            is_default: false,
        }
    }

    /// The name of its interface: what was asked for, or by its position among all.
    ///
    /// # Errors
    /// For GC and STATUS, which are about no interface.
    pub fn ifname(&self, position: usize, request: &Request) -> Result<IfName> {
        match (&self.asked.ifname, position) {
            (Some(ifname), _) => Ok(ifname.clone()),
            (None, 0) => Ok(request.attachment()?.ifname.clone()),
            (None, position) => format!("net{position}").parse(),
        }
    }

    /// How its plugins are called: what the runtime gave, and what the pod asks.
    ///
    /// `runtime_config` is the runtime's offer to all; the default network gets nothing more as
    /// capability arguments.
    ///
    /// # Errors
    /// As [`Delegate::ifname`].
    pub fn invocation(
        &self,
        position: usize,
        request: &Request,
        runtime_config: &CapabilityArgs,
    ) -> Result<Invocation> {
        let container_id = request.attachment()?.container_id.clone();
        let ifname = self.ifname(position, request)?;
        let mut capability_args = runtime_config.clone();
        if !self.is_default {
            self.offer(&mut capability_args)?;
            if let Some(device) = &self.device {
                let path = info::path(&self.label, &container_id, &ifname);
                capability_args.insert("deviceID".to_owned(), device.id.clone().into());
                capability_args.insert("CNIDeviceInfoFile".to_owned(), path.display().to_string().into());
            }
        }
        Ok(Invocation {
            attachment: Attachment { container_id, ifname },
            netns: request.env.netns.clone(),
            args: self.args(&request.env.args),
            capability_args,
        })
    }

    /// What the pod asks as capability arguments, under their conventional names.
    fn offer(&self, args: &mut CapabilityArgs) -> Result<()> {
        let asked = &self.asked;
        let mut set = |key: &str, value: serde_json::Result<Value>| {
            let value = value.map_err(|err| Error::invalid_config(err.to_string()))?;
            args.insert(key.to_owned(), value);
            Ok::<_, Error>(())
        };
        if !asked.port_mappings.is_empty() {
            set("portMappings", serde_json::to_value(&asked.port_mappings))?;
        }
        if let Some(bandwidth) = &asked.bandwidth {
            set("bandwidth", serde_json::to_value(bandwidth))?;
        }
        if !asked.ips.is_empty() {
            set("ips", Ok(asked.ips.clone().into()))?;
        }
        if let Some(mac) = &asked.mac {
            set("mac", Ok(mac.clone().into()))?;
        }
        if let Some(guid) = &asked.infiniband_guid {
            set("infinibandGUID", Ok(guid.clone().into()))?;
        }
        Ok(())
    }

    /// The runtime's arguments, with addresses for plugins that look for them there.
    fn args(&self, args: &CniArgs) -> CniArgs {
        // A plugin must not fail for the pod's name, which it does not know as an argument.
        let mut args = args.with("IgnoreUnknown", "true");
        if let Some(mac) = &self.asked.mac {
            args = args.with("MAC", mac);
        }
        if !self.asked.ips.is_empty() {
            args = args.with("IP", &self.asked.ips.join(","));
        }
        args
    }
}

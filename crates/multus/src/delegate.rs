//! A network that a pod is attached to, and the parameters of its plugins.

use std::net::IpAddr;

use cni_core::request::Request;
use cni_core::spec::{Attachment, CniArgs, Error, IfName, Result};
use cni_runtime::{CapabilityArgs, Invocation, NetworkConf};
use serde_json::Value;

use crate::annotation::Selection;
use crate::device::{Device, info};

/// A network and what is requested of it, before its place among the pod's networks is known.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The network.
    pub(crate) network: NetworkConf,
    /// Its name in the status and in events: `namespace/definition`, or the network's name.
    pub(crate) label: String,
    /// The pod's requests; empty for a network of the configuration.
    pub(crate) requested: Selection,
    /// The device to attach, from a device plugin or the annotation.
    pub(crate) device: Option<Device>,
}

/// One network of a pod. The first is the master: it has the interface that the runtime requested,
/// and its result is returned.
#[derive(Clone, Debug)]
pub(crate) struct Delegate {
    /// The network.
    pub(crate) network: NetworkConf,
    /// As [`Found::label`].
    pub(crate) label: String,
    /// As [`Found::requested`].
    pub(crate) requested: Selection,
    /// As [`Found::device`].
    pub(crate) device: Option<Device>,
    /// The name of its interface in the pod.
    pub(crate) ifname: IfName,
    /// Whether its default routes are removed, for IPv4 and IPv6.
    pub(crate) filtered: Families,
    /// Whether it is the default network, which gets no capability arguments of the pod.
    pub(crate) is_default: bool,
}

/// One flag for each family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Families {
    /// IPv4.
    pub(crate) v4: bool,
    /// IPv6.
    pub(crate) v6: bool,
}

impl Families {
    /// The flag of the family that an address has.
    pub(crate) fn of(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Whether either is set.
    pub(crate) fn any(self) -> bool {
        self.v4 || self.v6
    }
}

impl Found {
    /// A network of the configuration, of which a pod requests nothing.
    pub(crate) fn configured(network: NetworkConf) -> Found {
        Found { label: network.name().to_string(), network, requested: Selection::default(), device: None }
    }

    /// A network that a pod selected.
    pub(crate) fn selected(network: NetworkConf, requested: Selection) -> Found {
        let device = requested.device_id.clone().map(|id| Device { id, resource: String::new() });
        Found { network, label: format!("{}/{}", requested.namespace, requested.name), requested, device }
    }
}

/// The delegates that networks in the order of ADD make; `first` is the name of the first interface.
///
/// # Errors
/// None in practice.
pub(crate) fn in_order(found: Vec<Found>, first: &IfName) -> Result<Vec<Delegate>> {
    found.into_iter().enumerate().map(|(position, found)| Delegate::at(position, found, first)).collect()
}

impl Delegate {
    /// The network at a position among all of the pod. `first` is the name of the interface that the
    /// runtime requested, of the network at position 0; others are `netN` unless the pod names them.
    ///
    /// # Errors
    /// None in practice.
    fn at(position: usize, found: Found, first: &IfName) -> Result<Delegate> {
        let ifname = match (&found.requested.interface, position) {
            (Some(ifname), _) => ifname.clone(),
            (None, 0) => first.clone(),
            (None, position) => format!("net{position}").parse()?,
        };
        let Found { network, label, requested, device } = found;
        let filtered = Families::default();
        Ok(Delegate { network, label, requested, device, ifname, filtered, is_default: false })
    }

    /// The parameters of its plugins: those of the runtime, and the pod's requests.
    ///
    /// `runtime_config` is the runtime's offer to all networks; the default network gets nothing more
    /// as capability arguments.
    ///
    /// # Errors
    /// For GC and STATUS, which have no attachment.
    pub(crate) fn invocation(
        &self,
        request: &Request,
        runtime_config: &CapabilityArgs,
    ) -> Result<Invocation> {
        let container_id = request.attachment()?.container_id.clone();
        let mut capability_args = runtime_config.clone();
        if !self.is_default {
            self.offer(&mut capability_args)?;
            if let Some(device) = &self.device {
                let path = info::path(&self.label, &container_id, &self.ifname);
                capability_args.insert("deviceID".to_owned(), device.id.clone().into());
                capability_args.insert(info::CAPABILITY.to_owned(), path.display().to_string().into());
            }
        }
        Ok(Invocation {
            attachment: Attachment { container_id, ifname: self.ifname.clone() },
            netns: request.env.netns.clone(),
            args: self.args(&request.env.args),
            capability_args,
        })
    }

    /// The pod's requests as capability arguments, under their conventional names.
    fn offer(&self, args: &mut CapabilityArgs) -> Result<()> {
        let requested = &self.requested;
        if requested.port_mappings.is_some() {
            args.remove("portMappings");
        }
        let mut set = |key: &str, value: serde_json::Result<Value>| {
            let value = value.map_err(|err| Error::invalid_config(err.to_string()))?;
            args.insert(key.to_owned(), value);
            Ok::<_, Error>(())
        };
        if let Some(port_mappings) = requested.port_mappings.as_ref().filter(|list| !list.is_empty()) {
            set("portMappings", serde_json::to_value(port_mappings))?;
        }
        if let Some(bandwidth) = &requested.bandwidth {
            set("bandwidth", serde_json::to_value(bandwidth))?;
        }
        if !requested.ips.is_empty() {
            set("ips", Ok(requested.ips.clone().into()))?;
        }
        if let Some(mac) = &requested.mac {
            set("mac", Ok(mac.clone().into()))?;
        }
        if let Some(guid) = &requested.infiniband_guid {
            set("infinibandGUID", Ok(guid.clone().into()))?;
        }
        Ok(())
    }

    /// The runtime's arguments, with addresses for plugins that read them there.
    fn args(&self, args: &CniArgs) -> CniArgs {
        // A plugin must not fail because of the pod's name, which is no argument that it knows.
        let mut args = args.with("IgnoreUnknown", "true");
        if let Some(mac) = &self.requested.mac {
            args = args.with("MAC", mac);
        }
        if !self.requested.ips.is_empty() {
            args = args.with("IP", &self.requested.ips.join(","));
        }
        args
    }
}

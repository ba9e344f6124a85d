//! Which networks a pod is attached to, in which order.

use std::path::Path;
use std::sync::Arc;

use cni_core::spec::{Error, IfName, Result};
use cni_runtime::{NetworkConf, load};

use crate::annotation::{self, Selection};
use crate::cluster::{Cluster, ReadError};
use crate::config::{MultusConf, NAME};
use crate::delegate::{Delegate, Families, Found, in_order};
use crate::device::Devices;
use crate::failure::Failure;
use crate::object::{Definition, Kind, Pod, Reference};
use crate::{log, nad};

/// The longest definitions of one pod together, in bytes, and the longest configurations that a pod's arguments
/// make of them.
const MAX_DEFINITIONS: usize = 4 << 20;

/// A network that a pod gets, before its configuration is read.
enum Want<'a> {
    /// One of the configuration's own delegates.
    Given(&'a NetworkConf),
    /// Named in the configuration: a path, or the name of a definition or of a configuration
    /// in `confDir`.
    Configured(&'a str),
    /// Named by the pod.
    Selected(Box<Selection>, Kind),
}

/// The networks that a pod gets, in order.
struct Wants<'a> {
    networks: Vec<Want<'a>>,
    /// Whether the first is the default network. Else it is the first that the pod names.
    has_default: bool,
}

/// The delegates of a pod, the master first; `first` is the name of the master's interface.
///
/// # Errors
/// When an annotation, a definition or a file is invalid or missing, or two interfaces have one name.
pub(crate) fn delegates(
    conf: &MultusConf,
    cluster: &Cluster,
    pod: &Pod,
    first: &IfName,
) -> Result<Vec<Delegate>, Failure> {
    let mut devices = Devices::of(pod);
    plan(conf, cluster, pod, first, Some(&mut devices))
}

/// The delegates that [`delegates`] would give now, without their devices: what a DEL without a cache can
/// still find out.
///
/// # Errors
/// As [`delegates`].
pub(crate) fn delegates_for_del(
    conf: &MultusConf,
    cluster: &Cluster,
    pod: &Pod,
    first: &IfName,
) -> Result<Vec<Delegate>, Failure> {
    plan(conf, cluster, pod, first, None)
}

fn plan(
    conf: &MultusConf,
    cluster: &Cluster,
    pod: &Pod,
    first: &IfName,
    mut devices: Option<&mut Devices>,
) -> Result<Vec<Delegate>, Failure> {
    let Wants { networks: wants, has_default } = wants(conf, pod)?;
    let references: Vec<Option<Reference>> = wants.iter().map(|want| reference(conf, want)).collect();
    let known: Vec<Reference> = references.iter().flatten().cloned().collect();
    let answers = cluster.definitions(&known);
    require_bounded(answers.iter().flatten().map(|definition| definition.size()).sum())?;
    let mut answers = answers.into_iter();
    let source = Source { conf, cluster, own_namespace: &pod.metadata.namespace };
    let (mut found, mut size) = (Vec::new(), 0);
    for (want, reference) in wants.iter().zip(references) {
        let answer = reference.and_then(|reference| answers.next().map(|answer| (reference, answer)));
        let Some(resolved) = source.resolve(want, answer, devices.as_deref_mut())? else { continue };
        // Each plugin has its own copy of the pod's arguments.
        size += resolved.network.to_text()?.len();
        require_bounded(size)?;
        found.push(resolved);
    }
    found.extend(usable_chain(conf)?.map(Found::configured));
    for network in &found {
        refuse_self(&network.network)?;
    }
    let mut delegates = in_order(found, first)?;
    let Some(master) = delegates.first_mut() else {
        return Err(Error::invalid_config("no network to attach to")
            .details("the configuration has no delegates, and the pod names no network")
            .into());
    };
    master.is_default = has_default;
    require_different_names(&delegates)?;
    filter_default_routes(&mut delegates)?;
    Ok(delegates)
}

/// The networks that every pod gets and that are on disk: those that STATUS, DEL and GC know without
/// an API server. One that can't be read is an error in its place; a name that is not on disk and
/// may be that of a definition is left out.
pub(crate) fn configured(conf: &MultusConf) -> Vec<Result<NetworkConf>> {
    let mut networks: Vec<Result<NetworkConf>> = given(conf).into_iter().cloned().map(Ok).collect();
    let has_cluster = conf.kubeconfig.is_some() || conf.manifest_dir.is_some();
    for name in conf.cluster_network.iter().chain(&conf.default_networks) {
        match from_disk(conf, name) {
            Err(err) if has_cluster && !name.contains('/') => {
                log::debug(format_args!("{name} is not on disk: {err}"));
            }
            read => networks.push(read),
        }
    }
    networks.extend(usable_chain(conf).transpose());
    networks
}

/// The configuration's delegates, the master first.
fn given(conf: &MultusConf) -> Vec<&NetworkConf> {
    let mut given: Vec<&NetworkConf> = conf.delegates.iter().collect();
    if conf.master < given.len() {
        let master = given.remove(conf.master);
        given.insert(0, master);
    }
    given
}

fn wants<'a>(conf: &'a MultusConf, pod: &Pod) -> Result<Wants<'a>> {
    let mut networks: Vec<Want<'a>> = given(conf).into_iter().map(Want::Given).collect();
    networks.extend(conf.cluster_network.as_deref().map(Want::Configured));
    let is_system = conf.system_namespaces.contains(&pod.metadata.namespace);
    if conf.cluster_network.is_some() && !is_system {
        networks.extend(conf.default_networks.iter().map(|name| Want::Configured(name)));
    }
    if let Some(default) = default_network(conf, pod)? {
        networks.splice(..networks.len().min(1), [Want::Selected(Box::new(default), Kind::Definition)]);
    }
    let selected = selected(conf, pod)?;
    if !selected.is_empty() && conf.always_use_default == Some(false) {
        networks.clear();
    }
    let has_default = !networks.is_empty();
    networks.extend(selected);
    Ok(Wants { networks, has_default })
}

/// The network that the pod names in place of the default one.
fn default_network(conf: &MultusConf, pod: &Pod) -> Result<Option<Selection>> {
    let key = annotation::DEFAULT_NETWORK;
    let Some(text) = pod.annotation(key) else {
        return Ok(None);
    };
    let mut selections = annotation::parse(text, key, &conf.multus_namespace)?;
    let (Some(selection), true) = (selections.pop(), selections.is_empty()) else {
        return Err(Error::invalid_config(format!(
            "annotation {key} does not name exactly one network: {text:?}"
        )));
    };
    if selection.namespace != conf.multus_namespace {
        check_isolation(conf, pod, &selection)?;
    }
    Ok(Some(selection))
}

/// The further networks that the pod names.
fn selected<'a>(conf: &MultusConf, pod: &Pod) -> Result<Vec<Want<'a>>> {
    let keys = [(annotation::NETWORKS, Kind::Definition), (annotation::LEGACY_NETWORKS, Kind::LegacyNetwork)];
    let found = keys.into_iter().find_map(|(key, kind)| {
        pod.annotation(key).filter(|text| !text.trim().is_empty()).map(|text| (key, kind, text))
    });
    let Some((key, kind, text)) = found else {
        return Ok(Vec::new());
    };
    let parsed = annotation::parse(text, key, &pod.metadata.namespace);
    let selections = match parsed {
        // The name has no prefix: the annotation may be another tool's.
        Err(err) if kind == Kind::LegacyNetwork => {
            log::verbose(format_args!("the annotation {key} is ignored: {err}"));
            return Ok(Vec::new());
        }
        parsed => parsed?,
    };
    for selection in &selections {
        check_isolation(conf, pod, selection)?;
    }
    Ok(selections.into_iter().map(|selection| Want::Selected(Box::new(selection), kind)).collect())
}

fn check_isolation(conf: &MultusConf, pod: &Pod, selection: &Selection) -> Result<()> {
    let (own, other) = (&pod.metadata.namespace, &selection.namespace);
    if !conf.namespace_isolation || own == other || conf.global_namespaces.contains(other) {
        return Ok(());
    }
    Err(Error::invalid_config(format!(
        "namespace isolation: a pod of namespace {own} may not use network {} of namespace {other}",
        selection.name
    ))
    .details(format!("namespaces open to all: {}", conf.global_namespaces.join(", "))))
}

fn reference(conf: &MultusConf, want: &Want<'_>) -> Option<Reference> {
    let (kind, namespace, name) = match want {
        Want::Selected(selection, kind) => (*kind, &selection.namespace, selection.name.as_str()),
        // A name that no definition can have may be that of a configuration.
        Want::Configured(name) if annotation::check_object_name(name).is_ok() => {
            (Kind::Definition, &conf.multus_namespace, *name)
        }
        Want::Configured(_) | Want::Given(_) => return None,
    };
    Some(Reference { kind, namespace: namespace.clone(), name: name.to_owned() })
}

/// Where networks are read from, for a pod of `own_namespace`.
struct Source<'a> {
    conf: &'a MultusConf,
    cluster: &'a Cluster,
    own_namespace: &'a str,
}

impl Source<'_> {
    /// The configuration of a network; `None` for one that only an annotation of another tool may name.
    fn resolve(
        &self,
        want: &Want<'_>,
        answer: Option<(Reference, Result<Arc<Definition>, ReadError>)>,
        devices: Option<&mut Devices>,
    ) -> Result<Option<Found>, Failure> {
        let conf = self.conf;
        let found = match (want, answer) {
            (Want::Given(network), _) => Found::configured((*network).clone()),
            (Want::Configured(_), Some((reference, Ok(definition)))) => {
                let Reference { kind, namespace, name } = reference;
                let selection = Selection { name, namespace, ..Selection::default() };
                self.defined(&definition, kind, &selection, devices)?
            }
            (Want::Configured(name), Some((reference, Err(err)))) => {
                let network = from_disk(conf, name).map_err(|on_disk| {
                    let details = on_disk.to_string();
                    Failure::NoNetworkFound(self.not_read(&reference, err).details(details))
                })?;
                Found::configured(network)
            }
            (Want::Configured(name), None) => Found::configured(from_disk(conf, name)?),
            (Want::Selected(selection, kind), Some((_, Ok(definition)))) => {
                self.defined(&definition, *kind, selection, devices)?
            }
            // The earlier annotation may name newer definitions. The role in a cluster that never had the
            // earlier ones does not allow to read them.
            (
                Want::Selected(selection, Kind::LegacyNetwork),
                Some((reference, Err(ReadError::NotFound | ReadError::Forbidden(_)))),
            ) => {
                let newer = Reference { kind: Kind::Definition, ..reference };
                match self.cluster.definitions(std::slice::from_ref(&newer)).pop() {
                    Some(Ok(definition)) => {
                        self.defined(&definition, Kind::Definition, selection, devices)?
                    }
                    None | Some(Err(ReadError::NotFound)) => {
                        log::verbose(format_args!(
                            "{} of the annotation {} is ignored: there is no such network",
                            selection.name,
                            annotation::LEGACY_NETWORKS
                        ));
                        return Ok(None);
                    }
                    Some(Err(err)) => return Err(Failure::NoNetworkFound(self.not_read(&newer, err))),
                }
            }
            (Want::Selected(_, _), Some((reference, Err(err)))) => {
                return Err(Failure::NoNetworkFound(self.not_read(&reference, err)));
            }
            (Want::Selected(selection, _), None) => {
                let msg = format!("network {} was not read", selection.name);
                return Err(Error::invalid_config(msg).into());
            }
        };
        Ok(Some(found))
    }

    fn not_read(&self, reference: &Reference, err: ReadError) -> Error {
        self.cluster.not_read(reference, err, self.own_namespace)
    }

    fn defined(
        &self,
        definition: &Definition,
        kind: Kind,
        selection: &Selection,
        devices: Option<&mut Devices>,
    ) -> Result<Found> {
        let mut network =
            nad::network(definition, kind, &self.conf.conf_dir, &self.conf.inherited).map_err(|err| {
                // The details quote the text: no other namespace may read it in an event.
                let is_own = definition.metadata.namespace == self.own_namespace;
                if is_own { err } else { Error::new(err.code(), err.msg()) }
            })?;
        let resource = definition.metadata.annotations.get(nad::RESOURCE_NAME);
        let device = match resource.zip(devices) {
            None => None,
            Some((resource, devices)) => match devices.take(resource) {
                // Where files take the place of a cluster there is no kubelet.
                Err(err) if self.conf.manifest_dir.is_some() => {
                    log::verbose(format_args!("attaching without a device: {err}"));
                    None
                }
                taken => taken.map_err(|err| err.context(format_args!("network {}", selection.name)))?,
            },
        };
        if let Some(device) = &device {
            network = nad::with_device(&network, &device.id)?;
        }
        if let Some(cni_args) = &selection.cni_args {
            network = nad::with_cni_args(&network, cni_args)?;
        }
        let mut found = Found::selected(network, selection.clone());
        // The device plugin's device takes precedence over the pod's request.
        found.device = device.or(found.device);
        Ok(found)
    }
}

/// A network by path (file or folder), or by name in `confDir`.
fn from_disk(conf: &MultusConf, name: &str) -> Result<NetworkConf> {
    let inherited = &conf.inherited;
    if !name.contains('/') {
        return load::by_name(&conf.conf_dir, &name.parse()?, inherited);
    }
    let path = Path::new(name);
    if !path.is_dir() {
        return load::from_file(path, inherited);
    }
    load::first(path, inherited)?
        .ok_or_else(|| Error::invalid_config(format!("no network configuration in folder {name}")))
}

/// The chain of plugins in the folder of its name beside `clusterNetwork`. Its first plugin
/// does nothing; without others there is no chain.
fn auxiliary_chain(conf: &MultusConf) -> Result<Option<NetworkConf>, ChainError> {
    let Some(name) = &conf.auxiliary_chain else {
        return Ok(None);
    };
    let folder = conf
        .cluster_network
        .as_deref()
        .filter(|path| path.contains('/'))
        .and_then(|path| Path::new(path).parent());
    let Some(folder) = folder else {
        let err = Error::invalid_config("auxiliaryCNIChainName needs clusterNetwork to be a path")
            .details("the chain's plugins are in a folder beside that file");
        return Err(ChainError::NoFolder(err));
    };
    let text = serde_json::json!({
        "cniVersion": conf.version().as_str(),
        "name": name,
        "plugins": [{"type": "passthru", "name": "passthru-cni"}],
    });
    let chain =
        load::from_text(text.to_string().as_bytes(), "auxiliaryCNIChainName", folder, &conf.inherited)
            .map_err(ChainError::Invalid)?;
    Ok(Some(chain).filter(|chain| chain.plugins().len() > 1))
}

/// The auxiliary chain; as in the Go program, an invalid file of it stops no pod.
fn usable_chain(conf: &MultusConf) -> Result<Option<NetworkConf>> {
    auxiliary_chain(conf).or_else(|failure| match failure {
        ChainError::NoFolder(err) => Err(err),
        ChainError::Invalid(err) => {
            log::error(err.context("the auxiliary chain is left out"));
            Ok(None)
        }
    })
}

/// Why there is no auxiliary chain, although it is configured.
enum ChainError {
    NoFolder(Error),
    Invalid(Error),
}

/// Refuses a network that calls multus itself, which would never end.
fn refuse_self(network: &NetworkConf) -> Result<()> {
    if network.plugins().iter().any(|plugin| plugin.plugin_type().as_str() == NAME) {
        return Err(Error::invalid_config(format!("network {} is of type multus", network.name()))
            .details("multus cannot be its own delegate"));
    }
    Ok(())
}

/// Requires that the definitions of one pod have a bounded size together, in bytes: a few KiB are usual, and each
/// is copied several times.
fn require_bounded(size: usize) -> Result<()> {
    if size <= MAX_DEFINITIONS {
        return Ok(());
    }
    let limit = MAX_DEFINITIONS >> 20;
    Err(Error::invalid_config(format!("the pod's definitions are longer than {limit} MiB together"))
        .details("with the pod's cni-args, which every plugin gets"))
}

/// Requires that no two interfaces have one name.
fn require_different_names(delegates: &[Delegate]) -> Result<()> {
    for (position, delegate) in delegates.iter().enumerate() {
        let ifname = &delegate.ifname;
        if let Some(other) = delegates[..position].iter().find(|other| other.ifname == *ifname) {
            return Err(Error::invalid_config(format!("interface name {ifname} is used twice"))
                .details(format!("by network {} and by network {}", other.label, delegate.label)));
        }
    }
    Ok(())
}

/// Marks the networks whose default routes are removed, where a pod requests its default route on one
/// network.
///
/// A gateway removes the default routes of its family from all other networks. A request without
/// gateways removes those of both families, and leaves that network its own.
fn filter_default_routes(delegates: &mut [Delegate]) -> Result<()> {
    let mut moved = Families::default();
    let mut keepers = 0;
    for gateways in delegates.iter().filter_map(|delegate| delegate.requested.default_route.as_ref()) {
        keepers += usize::from(gateways.is_empty());
        for gateway in gateways {
            let family = if gateway.is_ipv4() { &mut moved.v4 } else { &mut moved.v6 };
            if std::mem::replace(family, true) {
                return Err(Error::invalid_config(format!("default-route: {gateway} is a second gateway"))
                    .details("a pod has one default route of each family"));
            }
        }
    }
    if keepers > 1 || (keepers > 0 && moved.any()) {
        return Err(Error::invalid_config("default-route is requested of several networks")
            .details("a pod has one default route of each family"));
    }
    if keepers > 0 {
        moved = Families { v4: true, v6: true };
    }
    for delegate in delegates {
        let keeps = |v4: bool| {
            let gateways = delegate.requested.default_route.as_ref();
            gateways.is_some_and(|list| list.is_empty() || list.iter().any(|gateway| gateway.is_ipv4() == v4))
        };
        delegate.filtered = Families { v4: moved.v4 && !keeps(true), v6: moved.v6 && !keeps(false) };
    }
    Ok(())
}

#[cfg(test)]
mod tests;

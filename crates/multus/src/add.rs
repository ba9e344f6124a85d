//! ADD: attaching a pod.

use cni_core::netlink::Netlink;
use cni_core::netns::Netns;
use cni_core::request::Request;
use cni_core::spec::{AddResult, Cidr, Code, Error, IfName, Interface, IpConfig, Result};
use cni_core::undo::Undo;
use cni_runtime::{Invocation, NetworkConf, Runtime};

use crate::cache::DelegateCache;
use crate::cluster::{Cluster, ReadError};
use crate::config::MultusConf;
use crate::delegate::Delegate;
use crate::device::info;
use crate::event::Event;
use crate::failure::Failure;
use crate::object::Pod;
use crate::pod_args::PodArgs;
use crate::status::{NETWORK_STATUS, StatusText};
use crate::{default_route, log, plan, readiness};

/// The folder in `cniDir` with the counts of events.
const EVENTS_DIR: &str = "events";

/// The length that the results of all networks may have together, in bytes: they are kept until the last
/// network is attached.
const RESULTS_MAX: usize = 4 << 20;

/// Attaches the pod of a call to all its networks.
pub(crate) fn add(request: &Request) -> Result<AddResult> {
    let conf = MultusConf::parse(request)?;
    let args = PodArgs::parse(&request.env.args);
    log::start(&conf.log, args.as_ref().ok());
    let added = args.and_then(|args| add_pod(request, &conf, &args).map_err(|err| args.name_in(err)));
    added.inspect_err(|err| log::error(err))
}

fn add_pod(request: &Request, conf: &MultusConf, args: &PodArgs) -> Result<AddResult> {
    if let Some(file) = &conf.readiness_file {
        readiness::wait(file, readiness::LIMIT)?;
    }
    let cluster = Cluster::of(conf);
    let Some(pod) = pod(&cluster, args)? else {
        return empty_result(request);
    };
    attach(request, conf, &cluster, &pod).map_err(|failure| {
        let event = Event::failed(&failure, &pod.metadata.uid, &conf.cni_dir.join(EVENTS_DIR));
        if let Err(err) = cluster.report(&pod, None, &[event]) {
            log::error(err);
        }
        failure.into()
    })
}

/// The pod; `None` where it no longer exists.
fn pod(cluster: &Cluster, args: &PodArgs) -> Result<Option<Pod>> {
    if cluster.is_absent() {
        return Ok(Some(Pod::of(args)));
    }
    args.require()?;
    let pod = match cluster.pod(args) {
        Ok(pod) => pod,
        Err(ReadError::NotFound) => {
            log::verbose(format_args!(
                "Warning: pod [{args}] is not found, it may be deleted already: the result is empty"
            ));
            return Ok(None);
        }
        Err(ReadError::Forbidden(err) | ReadError::Failed(err)) => return Err(err.context("reading the pod")),
    };
    let uid = &pod.metadata.uid;
    if !args.uid.is_empty() && *uid != args.uid {
        let msg = format!("expected pod UID {:?} but got {uid:?} from the API server", args.uid);
        if !pod.is_static() {
            return Err(Error::new(Code::TRY_AGAIN, msg).details("another pod has its name now"));
        }
        log::verbose(format_args!("[{args}]: {msg}: the pod is static, and that is its mirror"));
    }
    Ok(Some(pod))
}

/// The result for a pod that no longer exists, whose sandbox is about to be deleted, too. Runtimes
/// require an address.
fn empty_result(request: &Request) -> Result<AddResult> {
    let unspecified = std::net::IpAddr::from([0; 4]);
    let interface = Interface {
        name: request.attachment()?.ifname.to_string(),
        sandbox: request.netns()?.display().to_string(),
        ..Interface::default()
    };
    Ok(AddResult {
        interfaces: vec![interface],
        ips: vec![IpConfig {
            interface: None,
            address: Cidr::default_of(unspecified),
            gateway: Some(unspecified),
        }],
        ..AddResult::default()
    })
}

fn attach(request: &Request, conf: &MultusConf, cluster: &Cluster, pod: &Pod) -> Result<AddResult, Failure> {
    let attachment = request.attachment()?;
    let delegates = plan::delegates(conf, cluster, pod, &attachment.ifname)?;
    let runtime = crate::runtime(conf, request);
    let container = Container::open(request)?;
    DelegateCache::new(&conf.cni_dir).keep(&attachment.container_id, &request.conf.name, &delegates)?;
    let undo = Undo::new();
    let mut added: Vec<Added<'_>> = Vec::new();
    for delegate in &delegates {
        let invocation = delegate.invocation(request, &conf.runtime_config)?;
        let one = add_one(&runtime, &container, delegate, invocation)
            .map_err(|err| not_added(err, added.is_empty(), delegate))?;
        let (runtime, network, invocation) = (&runtime, &delegate.network, one.invocation.clone());
        undo.push(format!("the attachment to {}", delegate.label), move || {
            undo_one(runtime, network, &invocation)
        });
        added.push(one);
        if added.iter().map(|one| one.length).sum::<usize>() > RESULTS_MAX {
            let limit = RESULTS_MAX >> 20;
            let msg = format!("the results of the pod's networks are longer than {limit} MiB together");
            return Err(Error::new(Code::DELEGATE, msg).into());
        }
    }
    give_back_default_routes(&runtime, &container, &mut added)?;
    let mut report = Report::default();
    for (position, one) in added.iter().enumerate() {
        report.add(one, position == 0)?;
    }
    // As in the Go program, a pod without any entry gets no status, unless that of an earlier sandbox is there.
    let status = Some(report.status.value());
    let status = status.filter(|_| !report.status.is_empty() || pod.annotation(NETWORK_STATUS).is_some());
    cluster.report(pod, status.as_deref(), &report.events)?;
    undo.keep();
    Ok(added.into_iter().next().map(|master| master.result).unwrap_or_default())
}

/// Names the network. The code for "nothing was made, no DEL is needed" is true of the first only.
fn not_added(err: Error, is_first: bool, delegate: &Delegate) -> Error {
    let code = match err.code() {
        Code::UNKNOWN_CONTAINER if !is_first => Code::DELEGATE,
        code => code,
    };
    err.context(format_args!("error adding container to network {:?}", delegate.label)).with_code(code)
}

/// An attachment that exists.
struct Added<'d> {
    delegate: &'d Delegate,
    invocation: Invocation,
    result: AddResult,
    /// The length of the result as the plugin gave it, in bytes.
    length: usize,
    /// What became of its default routes.
    moved: Option<default_route::Moved>,
}

fn add_one<'d>(
    runtime: &Runtime,
    container: &Container,
    delegate: &'d Delegate,
    invocation: Invocation,
) -> Result<Added<'d>> {
    let ifname = &invocation.attachment.ifname;
    container.require_free(ifname)?;
    if let (Some(device), Some(path)) = (&delegate.device, info::file_of(&invocation)) {
        info::copy(device, &path);
    }
    let network = &delegate.network;
    let mut result = runtime.add(network, &invocation).inspect_err(|_| info::forget(&invocation))?;
    let text = result.to_json(network.version()).unwrap_or_default();
    log::verbose(format_args!("Add: {}({}):{ifname} {text}", delegate.label, network.name()));
    let moved = default_route::apply(delegate, &container.netns, ifname, &mut result).and_then(|moved| {
        // CHECK and DEL compare with the kernel's state as it is now.
        if moved.is_some() {
            runtime.keep(network, &invocation, &result)?;
        }
        Ok(moved)
    });
    match moved {
        Ok(moved) => Ok(Added { delegate, invocation, result, length: text.len(), moved }),
        Err(err) => {
            if let Err(undo) = undo_one(runtime, network, &invocation) {
                log::error(undo);
            }
            Err(err)
        }
    }
}

/// Where a pod requests its default route of a network that gave nothing, the others keep theirs. They lost
/// them before that was known: a plugin may add its own default route only where there is no other.
fn give_back_default_routes(runtime: &Runtime, container: &Container, added: &mut [Added<'_>]) -> Result<()> {
    for position in 0..added.len() {
        let in_vain = default_route::requested_in_vain(added[position].delegate, &added[position].result);
        if !in_vain.any() {
            continue;
        }
        let label = &added[position].delegate.label;
        log::verbose(format_args!("default-route: {label} gave no interface, the default route stays"));
        for Added { delegate, invocation, result, moved, .. } in added.iter_mut() {
            let ifname = &invocation.attachment.ifname;
            if let Some(moved) = moved
                && moved.give_back(in_vain, &container.netns, ifname, result)?
            {
                runtime.keep(&delegate.network, invocation, result)?;
            }
        }
    }
    Ok(())
}

fn undo_one(runtime: &Runtime, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
    let undone = runtime.undo(network, invocation);
    info::forget(invocation);
    undone
}

/// The pod's namespace.
struct Container {
    netns: Netns,
    netlink: Netlink,
}

impl Container {
    fn open(request: &Request) -> Result<Container> {
        let netns = Netns::open_existing(request.netns()?)?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Container { netns, netlink })
    }

    /// A plugin may not notice a conflict, and its DEL would delete the other interface.
    fn require_free(&self, ifname: &IfName) -> Result<()> {
        if self.netlink.link(ifname)?.is_none() {
            return Ok(());
        }
        Err(Error::invalid_config(format!("interface name {ifname} already exists in the container"))
            .details(format!("its network namespace is {}", self.netns.path().display())))
    }
}

/// The report to the cluster.
#[derive(Default)]
struct Report {
    status: StatusText,
    events: Vec<Event>,
}

impl Report {
    fn add(&mut self, added: &Added<'_>, is_master: bool) -> Result<()> {
        let Added { delegate, invocation, result, .. } = added;
        let info = info::file_of(invocation).and_then(|path| info::read(&path));
        self.events.extend(Event::added(&invocation.attachment.ifname, &delegate.label, result));
        self.status.add(result, &delegate.label, is_master, info.as_ref())
    }
}

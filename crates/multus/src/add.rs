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
use crate::delegate::{Delegate, device_info_path};
use crate::device::info;
use crate::event::Event;
use crate::object::Pod;
use crate::pod_args::PodArgs;
use crate::status::NetworkStatus;
use crate::{default_route, log, plan, readiness, status};

/// Attaches the pod of a call to all its networks.
pub(crate) fn add(request: &Request) -> Result<AddResult> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log);
    let args = PodArgs::parse(&request.env.args)?;
    let added = add_pod(request, &conf, &args).map_err(|err| err.context(format_args!("Multus: [{args}]")));
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
    let attached = attach(request, conf, &cluster, &pod);
    let Err(err) = &attached else {
        return attached;
    };
    let reason = if err.msg().starts_with("cannot find") { "NoNetworkFound" } else { "FailedAttach" };
    if let Err(unsaid) = cluster.report(&pod, None, &[Event::failed(reason, err)]) {
        log::error(unsaid);
    }
    attached
}

/// The pod; `None` where it is gone.
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
            return Err(Error::new(Code::TRY_AGAIN, msg).details("another pod of that name took its place"));
        }
        log::verbose(format_args!("[{args}]: {msg}: the pod is static, and that is its mirror"));
    }
    Ok(Some(pod))
}

/// What is returned for a pod that is gone: its sandbox is about to go, too. Runtimes require
/// an address.
fn empty_result(request: &Request) -> Result<AddResult> {
    let nowhere = std::net::IpAddr::from([0; 4]);
    let interface = Interface {
        name: request.attachment()?.ifname.to_string(),
        sandbox: request.netns()?.display().to_string(),
        ..Interface::default()
    };
    Ok(AddResult {
        interfaces: vec![interface],
        ips: vec![IpConfig { interface: None, address: Cidr::default_of(nowhere), gateway: Some(nowhere) }],
        ..AddResult::default()
    })
}

fn attach(request: &Request, conf: &MultusConf, cluster: &Cluster, pod: &Pod) -> Result<AddResult> {
    let delegates = plan::delegates(conf, cluster, Some(pod))?;
    plan::check_interface_names(&delegates, request)?;
    let runtime = crate::runtime(conf, request);
    let container = Container::open(request)?;
    DelegateCache::new(&conf.cni_dir).keep(&request.attachment()?.container_id, &delegates)?;
    let undo = Undo::new();
    let mut report = Report::default();
    let mut master = None;
    for (position, delegate) in delegates.iter().enumerate() {
        let invocation = delegate.invocation(position, request, &conf.runtime_config)?;
        let result = add_one(&runtime, &container, delegate, &invocation)
            .map_err(|err| not_added(err, position, delegate))?;
        let (runtime, network) = (&runtime, &delegate.network);
        report.add(delegate, position == 0, &invocation, &result);
        master.get_or_insert(result);
        undo.push(format!("the attachment to {}", delegate.label), move || {
            take_back(runtime, network, &invocation)
        });
    }
    cluster.report(pod, Some(&status::to_text(&report.statuses)), &report.events)?;
    undo.keep();
    Ok(master.unwrap_or_default())
}

/// Names the network, and keeps a code that says "nothing was made" from being believed
/// when another network was.
fn not_added(err: Error, position: usize, delegate: &Delegate) -> Error {
    let code = match err.code() {
        Code::UNKNOWN_CONTAINER if position > 0 => Code::DELEGATE,
        code => code,
    };
    err.context(format_args!("error adding container to network {:?}", delegate.label)).with_code(code)
}

fn add_one(
    runtime: &Runtime,
    container: &Container,
    delegate: &Delegate,
    invocation: &Invocation,
) -> Result<AddResult> {
    let ifname = &invocation.attachment.ifname;
    container.require_free(ifname)?;
    if let (Some(device), Some(path)) = (&delegate.device, device_info_path(invocation)) {
        info::copy(device, &path);
    }
    let mut result = runtime.add(&delegate.network, invocation).inspect_err(|_| info::forget(invocation))?;
    let network = &delegate.network;
    let text = result.to_json(network.version()).unwrap_or_default();
    log::verbose(format_args!("Add: {}({}):{ifname} {text}", delegate.label, network.name()));
    let moved = default_route::apply(delegate, &container.netns, ifname, &mut result).and_then(|changed| {
        // CHECK and DEL compare with what is there now.
        if changed { runtime.keep(&delegate.network, invocation, &result) } else { Ok(()) }
    });
    if let Err(err) = moved {
        if let Err(undoing) = take_back(runtime, &delegate.network, invocation) {
            log::error(undoing);
        }
        return Err(err);
    }
    Ok(result)
}

fn take_back(runtime: &Runtime, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
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

    /// A plugin may not notice, and the DEL that follows would delete what is not its own.
    fn require_free(&self, ifname: &IfName) -> Result<()> {
        if self.netlink.link(ifname)?.is_none() {
            return Ok(());
        }
        Err(Error::invalid_config(format!("interface name {ifname} already exists in the container"))
            .details(format!("its network namespace is {}", self.netns.path().display())))
    }
}

/// What the cluster is told.
#[derive(Default)]
struct Report {
    statuses: Vec<NetworkStatus>,
    events: Vec<Event>,
}

impl Report {
    fn add(&mut self, delegate: &Delegate, is_master: bool, invocation: &Invocation, result: &AddResult) {
        let info = device_info_path(invocation).and_then(|path| info::read(&path));
        self.statuses.extend(status::entries(result, &delegate.label, is_master, info.as_ref()));
        self.events.extend(Event::added(&invocation.attachment.ifname, &delegate.label, result));
    }
}

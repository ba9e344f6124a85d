//! CHECK and STATUS.

use cni_core::request::Request;
use cni_core::spec::{Code, Error, Result};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::config::MultusConf;
use crate::detachment::{self, Source};
use crate::pod_args::PodArgs;
use crate::{log, plan, readiness};

/// Checks every attachment of the pod.
pub(crate) fn check(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    let args = PodArgs::parse(&request.env.args).unwrap_or_default();
    log::start(&conf.log, Some(&args));
    check_pod(request, &conf).map_err(|err| args.name_in(err)).inspect_err(|err| log::error(err))
}

fn check_pod(request: &Request, conf: &MultusConf) -> Result<()> {
    let runtime = crate::runtime(conf, request);
    let attachment = request.attachment()?;
    let container_id = &attachment.container_id;
    let delegates = match DelegateCache::new(&conf.cni_dir).get(attachment, &conf.inherited) {
        CachedDelegates::Known(delegates, _) => delegates,
        CachedDelegates::Unreadable(err) => return Err(err.with_code(Code::CHECK_FAILED)),
        CachedDelegates::Absent => {
            return Err(Error::check(format!("container {container_id} is not in the cache"))
                .details(format!("its delegates would be in {}", conf.cni_dir.display())));
        }
    };
    for attached in
        detachment::of_delegates(&runtime, &conf.runtime_config, request, &delegates, Source::Cache)?
    {
        let version = attached.network.version();
        if !version.has_check() {
            log::verbose(format_args!("network {} of version {version} has no CHECK", attached.label));
            continue;
        }
        runtime.check(&attached.network, &attached.invocation).map_err(|err| {
            let ifname = &attached.invocation.attachment.ifname;
            err.context(format_args!("checking {ifname} on network {:?}", attached.label))
        })?;
    }
    Ok(())
}

/// Whether a pod without requests of its own could be attached.
///
/// Only networks on disk are asked. A container runtime calls this every half second at its start and
/// starts no pod before it succeeds, not even one that the API server needs.
pub(crate) fn status(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log, None);
    if let Some(file) = &conf.readiness_file {
        readiness::require(file)?;
    }
    let runtime = crate::runtime(&conf, request);
    for network in plan::configured(&conf) {
        let network = network
            .map_err(|err| err.context("a network of the configuration").with_code(Code::UNAVAILABLE))?;
        runtime.status(&network)?;
    }
    Ok(())
}

//! Sets sysctls and attributes of a container's interface, behind the plugin that created it.
//!
//! DEL restores the attributes from a backup, whose file and format are the Go plugin's. Ours also
//! has the name of the network, by which GC finds what no DEL came for.
#![deny(missing_docs)]

mod allowlist;
mod attributes;
mod backup;
mod config;
mod keys;

use cni_core::chained::{Chained, ChainedPlugin};
use cni_core::context::Context;
use cni_core::namespaces::Namespaces;
use cni_core::netlink::Link;
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Attachment, Code, Error, Result};
use cni_core::sysctl::Sysctl;

use attributes::Attributes;
use backup::Backups;
pub use config::TuningConf;
pub use keys::KEYS;

/// The plugin.
pub const TUNING: Chained<Tuning> = Chained(Tuning);

/// What [`TUNING`] does.
pub struct Tuning;

impl ChainedPlugin for Tuning {
    type Config = TuningConf;

    fn about(&self) -> About {
        About {
            names: &["tuning"],
            summary: "sets sysctls and attributes of a container's interface",
            kind: Kind::Chained,
        }
    }

    fn config(&self, request: &Request) -> Result<TuningConf> {
        TuningConf::parse(request)
    }

    fn apply(
        &self,
        context: &Context<'_>,
        config: &TuningConf,
        link: &Link,
        result: &mut AddResult,
    ) -> Result<()> {
        allowlist::check(config.sysctls.keys())?;
        let changed = Attributes::of(link).only(&config.attributes);
        if !changed.is_empty() {
            let backups = Backups::new(&config.data_dir);
            let created = backups.store(&context.request.conf.name, context.attachment, &changed)?;
            let attachment = context.attachment.clone();
            if created {
                context.undo.push("the backup", move || backups.remove(&attachment));
            }
        }
        for (key, value) in &config.sysctls {
            set_sysctl(context, &Sysctl::parse_for(key, context.ifname())?, value)?;
        }
        let (namespaces, tuned) = (context.namespaces().clone(), link.clone());
        context.undo.push("attributes", move || changed.set(&namespaces.container, &tuned));
        config.attributes.set(context.container(), link)?;
        let Attributes { mac, mtu, .. } = config.attributes;
        // Whatever its sandbox: as the Go plugin does.
        for interface in result.interfaces.iter_mut().filter(|interface| interface.name == link.name) {
            if let Some(mac) = mac {
                interface.mac = mac.to_string();
            }
            if interface.mtu.is_some() {
                interface.mtu = mtu.or(interface.mtu);
            }
        }
        Ok(())
    }

    /// Sysctls are not restored: they go with the namespace.
    fn revert(&self, request: &Request, interface: Option<(&Namespaces, &Link)>) -> Result<()> {
        let backups = Backups::new(&config::data_dir(request));
        let attachment = request.attachment()?;
        if let (Some((namespaces, link)), Some(backup)) = (interface, backups.load(attachment)?) {
            backup.restore(&namespaces.container, link);
        }
        backups.remove(attachment)
    }

    fn check(&self, context: &Context<'_>, config: &TuningConf, link: &Link) -> Result<()> {
        for (key, value) in &config.sysctls {
            let sysctl = Sysctl::parse_for(key, context.ifname())?;
            let found = context.namespaces().netns.enter(|| sysctl.get())?;
            let found = found.map_err(|err| Error::check(format!("reading {sysctl}: {err}")))?;
            // The kernel separates several numbers by tabs, however they were written.
            if !found.split_whitespace().eq(value.split_whitespace()) {
                return Err(Error::check(format!("{sysctl} is {found:?}, not {value:?}")));
            }
        }
        config.attributes.check(link)
    }

    fn status(&self, config: &TuningConf, _: &Request) -> Result<()> {
        allowlist::check(config.sysctls.keys()).map_err(|err| err.with_code(Code::UNAVAILABLE))
    }

    fn gc(&self, request: &Request, valid: &[Attachment]) -> Result<()> {
        Backups::new(&config::data_dir(request)).gc(&request.conf.name, valid)
    }
}

fn set_sysctl(context: &Context<'_>, sysctl: &Sysctl, value: &str) -> Result<()> {
    let before = context.namespaces().netns.enter(|| {
        let before = sysctl.get().map_err(|err| Error::io(format!("reading {sysctl}"), err))?;
        sysctl.set(value).map(|()| before)
    })??;
    let (namespaces, sysctl) = (context.namespaces().clone(), sysctl.clone());
    context.undo.push(format!("setting {sysctl}"), move || namespaces.netns.enter(|| sysctl.set(&before))?);
    Ok(())
}

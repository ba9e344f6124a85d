//! Calling all plugins of a network.

use std::collections::HashSet;
use std::path::PathBuf;

use cni_core::delegate;
use cni_core::diagnostics::note;
use cni_core::plugin::Plugin;
use cni_core::request::{Command, Environment, ExecOptions, Request};
use cni_core::spec::{AddResult, Attachment, Code, Error, NetConf, Result};

use crate::cache::{Cached, ResultCache};
use crate::conf::NetworkConf;
use crate::invocation::Invocation;
use crate::plugin_conf::PluginConf;
use crate::request::{Purpose, derive};

/// A caller of plugins, with what all its calls have in common.
#[derive(Clone)]
pub struct Runtime {
    /// The folders with plugins (`CNI_PATH`).
    pub path: Vec<PathBuf>,
    /// The cache of results.
    pub cache: ResultCache,
    /// The plugins of this program, which are called in process.
    pub plugins: &'static [&'static dyn Plugin],
    /// How other plugins are executed.
    pub exec: ExecOptions,
    /// `CNI_NETNS_OVERRIDE`, passed on.
    pub netns_override: bool,
}

impl Runtime {
    /// Adds an attachment: all plugins in order, each with the result of the one before.
    ///
    /// # Errors
    /// That of the plugin that failed, after every plugin was called with DEL.
    pub fn add(&self, network: &NetworkConf, invocation: &Invocation) -> Result<AddResult> {
        let added = self.add_plugins(network, invocation).and_then(|result| {
            self.keep(network, invocation, &result)?;
            Ok(result)
        });
        added.inspect_err(|_| {
            if let Err(err) = self.undo(network, invocation) {
                // The first error is the one to return.
                note(format_args!("undoing the attachment to {} failed: {err}", network.name()));
            }
        })
    }

    /// Replaces the cached result of ADD, where the caller changed the attachment.
    ///
    /// # Errors
    /// Those of writing the cache.
    pub fn keep(&self, network: &NetworkConf, invocation: &Invocation, result: &AddResult) -> Result<()> {
        let config = network.to_text()?;
        self.cache.keep(network.name(), network.version(), &config, invocation, result)
    }

    fn add_plugins(&self, network: &NetworkConf, invocation: &Invocation) -> Result<AddResult> {
        let mut result: Option<AddResult> = None;
        for plugin in network.plugins() {
            let purpose = Purpose::Attachment {
                capability_args: &invocation.capability_args,
                prev_result: result.as_ref(),
            };
            let answer = self.call(Command::Add, network, plugin, &purpose, Some(invocation))?;
            result = Some(answer.unwrap_or_default());
        }
        result.ok_or_else(|| Error::invalid_config(format!("network {} has no plugins", network.name())))
    }

    /// Deletes an attachment: all plugins in reverse order, each with the result of ADD.
    ///
    /// # Errors
    /// That of the first plugin that failed. The plugins before it in the list are not called then, and
    /// the result stays in the cache for the next DEL.
    pub fn del(&self, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
        let cached = self.cached_result(network, invocation);
        for plugin in network.plugins().iter().rev() {
            self.del_plugin(network, plugin, invocation, cached.as_ref())?;
        }
        self.cache.forget(network.name(), &invocation.attachment)
    }

    /// Undoes an ADD: as [`Runtime::del`], but a plugin that fails (it may not even be installed) does
    /// not keep the others from being called.
    ///
    /// # Errors
    /// All failures as one; the result stays in the cache then.
    pub fn undo(&self, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
        let cached = self.cached_result(network, invocation);
        let del = |plugin| self.del_plugin(network, plugin, invocation, cached.as_ref()).err();
        Error::all(network.plugins().iter().rev().filter_map(del).collect())?;
        self.cache.forget(network.name(), &invocation.attachment)
    }

    fn del_plugin(
        &self,
        network: &NetworkConf,
        plugin: &PluginConf,
        invocation: &Invocation,
        cached: Option<&AddResult>,
    ) -> Result<()> {
        let purpose = Purpose::Attachment {
            capability_args: &invocation.capability_args,
            // DEL has it since the version that has CHECK.
            prev_result: cached.filter(|_| network.version().has_check()),
        };
        self.call(Command::Del, network, plugin, &purpose, Some(invocation)).map(|_| ())
    }

    /// Checks an attachment: all plugins in order, each with the result of ADD.
    ///
    /// # Errors
    /// That of the first plugin that found a difference; [`Code::CHECK_FAILED`] when no result of an ADD
    /// is stored; [`Code::INCOMPATIBLE_VERSION`] when the network's version has no CHECK.
    pub fn check(&self, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
        let (name, version) = (network.name(), network.version());
        if !version.has_check() {
            let msg = format!("network {name}: cniVersion {version} has no CHECK");
            return Err(Error::new(Code::INCOMPATIBLE_VERSION, msg).details("CHECK exists since 0.4.0"));
        }
        if network.disable_check() {
            return Ok(());
        }
        // A container that was not added must not be checked (specification, CHECK, runtime considerations).
        let Some(cached) = self.cached_result(network, invocation) else {
            let msg = format!("network {name}: no result of an ADD is stored for this attachment");
            return Err(Error::new(Code::CHECK_FAILED, msg));
        };
        for plugin in network.plugins() {
            let purpose = Purpose::Attachment {
                capability_args: &invocation.capability_args,
                prev_result: Some(&cached),
            };
            self.call(Command::Check, network, plugin, &purpose, Some(invocation))?;
        }
        Ok(())
    }

    /// Whether all plugins can serve an ADD. Versions without STATUS count as able.
    ///
    /// # Errors
    /// That of the first plugin that can not, with its code.
    pub fn status(&self, network: &NetworkConf) -> Result<()> {
        if !network.version().has_gc() {
            return Ok(());
        }
        for plugin in network.plugins() {
            self.call(Command::Status, network, plugin, &Purpose::Status, None)?;
        }
        Ok(())
    }

    /// Removes what belongs to other attachments than the valid ones: first those in the cache, by DEL,
    /// then those that the plugins know, by GC.
    ///
    /// # Errors
    /// All failures as one; a failure stops no other step.
    pub fn gc(&self, network: &NetworkConf, valid: &[Attachment]) -> Result<()> {
        if network.disable_gc() {
            return Ok(());
        }
        let mut errors = Vec::new();
        let living: HashSet<&Attachment> = valid.iter().collect();
        let stale = |cached: &Cached| {
            cached.network == *network.name() && !living.contains(&cached.invocation.attachment)
        };
        for cached in self.cache.all()?.into_iter().filter(stale) {
            errors.extend(self.del(network, &cached.invocation.of_gone()).err());
        }
        if network.version().has_gc() {
            for plugin in network.plugins() {
                errors.extend(self.call(Command::Gc, network, plugin, &Purpose::Gc(valid), None).err());
            }
        }
        Error::all(errors)
    }

    /// The calls by which ADD, DEL or CHECK would be made, in their order. What ADD of a plugin gets as
    /// `prevResult` is known only when the plugin before it has answered: it is left out.
    ///
    /// # Errors
    /// A configuration that can't be derived.
    pub fn calls(
        &self,
        command: Command,
        network: &NetworkConf,
        invocation: &Invocation,
    ) -> Result<Vec<Request>> {
        let cached = match command {
            Command::Add => None,
            _ => self.cached_result(network, invocation),
        };
        let purpose = Purpose::Attachment {
            capability_args: &invocation.capability_args,
            prev_result: cached.as_ref().filter(|_| network.version().has_check()),
        };
        let call = |plugin| self.request(command, network, plugin, &purpose, Some(invocation));
        match command {
            Command::Del => network.plugins().iter().rev().map(call).collect(),
            _ => network.plugins().iter().map(call).collect(),
        }
    }

    /// The calls by which STATUS, or GC that keeps the valid attachments, would be made.
    ///
    /// # Errors
    /// As [`Runtime::calls`].
    pub fn calls_of_network(
        &self,
        command: Command,
        network: &NetworkConf,
        valid: &[Attachment],
    ) -> Result<Vec<Request>> {
        let purpose = match command {
            Command::Gc => Purpose::Gc(valid),
            _ => Purpose::Status,
        };
        let call = |plugin| self.request(command, network, plugin, &purpose, None);
        network.plugins().iter().map(call).collect()
    }

    fn cached_result(&self, network: &NetworkConf, invocation: &Invocation) -> Option<AddResult> {
        self.cache.result(network.name(), &invocation.attachment)
    }

    fn call(
        &self,
        command: Command,
        network: &NetworkConf,
        plugin: &PluginConf,
        purpose: &Purpose<'_>,
        invocation: Option<&Invocation>,
    ) -> Result<Option<AddResult>> {
        let request = self.request(command, network, plugin, purpose, invocation)?;
        delegate::call(plugin.plugin_type(), &request).map_err(|err| {
            err.context(format_args!("plugin {} of network {}", plugin.plugin_type(), network.name()))
        })
    }

    fn request(
        &self,
        command: Command,
        network: &NetworkConf,
        plugin: &PluginConf,
        purpose: &Purpose<'_>,
        invocation: Option<&Invocation>,
    ) -> Result<Request> {
        let text = derive(network, plugin, purpose)?;
        let env = Environment {
            command,
            attachment: invocation.map(|invocation| invocation.attachment.clone()),
            netns: invocation.and_then(|invocation| invocation.netns.clone()),
            args: invocation.map(|invocation| invocation.args.clone()).unwrap_or_default(),
            path: self.path.clone(),
            netns_override: self.netns_override,
        };
        let conf = NetConf::parse(&text)?;
        Ok(Request { env, conf, text, plugins: self.plugins, exec: self.exec })
    }
}

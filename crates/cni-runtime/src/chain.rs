//! Running all plugins of a network.

use std::path::PathBuf;

use cni_core::delegate;
use cni_core::netns;
use cni_core::plugin::Plugin;
use cni_core::request::{Command, Environment, ExecOptions, Request};
use cni_core::spec::{AddResult, Attachment, CniArgs, Code, Error, NetConf, Result};

use crate::cache::{Cached, ResultCache};
use crate::conf::NetworkConf;
use crate::plugin_conf::{CapabilityArgs, PluginConf};
use crate::request::{Purpose, derive};

/// What is the same for all calls of a caller of plugins.
#[derive(Clone)]
pub struct Runtime {
    /// The folders with plugins (`CNI_PATH`).
    pub path: Vec<PathBuf>,
    /// Where results are kept.
    pub cache: ResultCache,
    /// The plugins that this program holds, called without executing a file.
    pub plugins: &'static [&'static dyn Plugin],
    /// How the others are executed.
    pub exec: ExecOptions,
    /// `CNI_NETNS_OVERRIDE`, handed on.
    pub netns_override: bool,
}

/// The parameters of one attachment (specification, section 3, "Attachment Parameters").
#[derive(Clone, PartialEq, Debug)]
pub struct Invocation {
    /// The container and its interface.
    pub attachment: Attachment,
    /// The path of its network namespace; perhaps `None` for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// Offered to the plugins that declare the capability.
    pub capability_args: CapabilityArgs,
}

impl Invocation {
    /// The same for a container that is gone: where its namespace was, another may be by now.
    /// The path is kept only where that can't be: a path below `/proc` belongs to whoever has
    /// the process id now, and nobody's container is the namespace of this thread.
    #[must_use]
    pub fn of_gone(mut self) -> Invocation {
        // What links to a namespace below /proc has no real path: the last link says `net:[..]`.
        let is_lasting = |path: &PathBuf| !path.starts_with("/proc") && path.canonicalize().is_ok();
        self.netns = self.netns.filter(|path| is_lasting(path) && netns::refuse_own(path).is_ok());
        self
    }
}

impl Runtime {
    /// Adds an attachment: all plugins in order, each with the result of the one before.
    ///
    /// # Errors
    /// That of the plugin that failed. By then every plugin was called with DEL.
    pub fn add(&self, network: &NetworkConf, invocation: &Invocation) -> Result<AddResult> {
        let added = self.add_plugins(network, invocation).and_then(|result| {
            self.keep(network, invocation, &result)?;
            Ok(result)
        });
        added.inspect_err(|_| {
            if let Err(err) = self.undo(network, invocation) {
                // The first error is the one to report; this one is for whoever looks closer.
                eprintln!("undoing the attachment to {} failed: {err}", network.name());
            }
        })
    }

    /// Keeps a result in place of what ADD returned, where the caller changed what is so.
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
    /// That of the first plugin that failed; those before it in the list were not called
    /// then, and the result stays in the cache for the next DEL.
    pub fn del(&self, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
        let cached = self.cached_result(network, invocation);
        for plugin in network.plugins().iter().rev() {
            self.del_plugin(network, plugin, invocation, cached.as_ref())?;
        }
        self.cache.forget(network.name(), &invocation.attachment)
    }

    /// Takes an attachment back that is of no use to anybody: as [`Runtime::del`], but a plugin
    /// that fails (it may not even be installed) keeps no other from being called.
    ///
    /// # Errors
    /// All that failed, as one; the result stays in the cache then.
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
            // DEL knows it since the version that has CHECK.
            prev_result: cached.filter(|_| network.version().has_check()),
        };
        self.call(Command::Del, network, plugin, &purpose, Some(invocation)).map(|_| ())
    }

    /// Checks an attachment: all plugins in order, each with the result of ADD.
    ///
    /// # Errors
    /// That of the first plugin that found a difference; [`Code::INCOMPATIBLE_VERSION`] when
    /// the network's version has no CHECK.
    pub fn check(&self, network: &NetworkConf, invocation: &Invocation) -> Result<()> {
        let (name, version) = (network.name(), network.version());
        if !version.has_check() {
            let msg = format!("network {name}: cniVersion {version} has no CHECK");
            return Err(Error::new(Code::INCOMPATIBLE_VERSION, msg).details("CHECK exists since 0.4.0"));
        }
        if network.disable_check() {
            return Ok(());
        }
        let cached = self.cached_result(network, invocation);
        for plugin in network.plugins() {
            let purpose = Purpose::Attachment {
                capability_args: &invocation.capability_args,
                prev_result: cached.as_ref(),
            };
            self.call(Command::Check, network, plugin, &purpose, Some(invocation))?;
        }
        Ok(())
    }

    /// Whether all plugins could serve an ADD. A network of a version without STATUS could.
    ///
    /// # Errors
    /// That of the first plugin that could not, with its code.
    pub fn status(&self, network: &NetworkConf) -> Result<()> {
        if !network.version().has_gc() {
            return Ok(());
        }
        for plugin in network.plugins() {
            self.call(Command::Status, network, plugin, &Purpose::Status, None)?;
        }
        Ok(())
    }

    /// Removes what belongs to other attachments than the valid ones: first those that the
    /// cache knows, by DEL, then whatever the plugins know of, by GC.
    ///
    /// # Errors
    /// All that failed, as one; nothing is left out for it.
    pub fn gc(&self, network: &NetworkConf, valid: &[Attachment]) -> Result<()> {
        if network.disable_gc() {
            return Ok(());
        }
        let mut errors = Vec::new();
        let stale = |cached: &Cached| {
            cached.network == *network.name() && !valid.contains(&cached.invocation.attachment)
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

    fn cached_result(&self, network: &NetworkConf, invocation: &Invocation) -> Option<AddResult> {
        self.cache.get(network.name(), &invocation.attachment)?.result
    }

    fn call(
        &self,
        command: Command,
        network: &NetworkConf,
        plugin: &PluginConf,
        purpose: &Purpose<'_>,
        invocation: Option<&Invocation>,
    ) -> Result<Option<AddResult>> {
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
        let request = Request { env, conf, text, plugins: self.plugins, exec: self.exec };
        delegate::call(plugin.plugin_type(), &request).map_err(|err| {
            err.context(format_args!("plugin {} of network {}", plugin.plugin_type(), network.name()))
        })
    }
}

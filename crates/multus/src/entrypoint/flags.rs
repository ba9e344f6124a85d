//! The table of all flags: names and defaults are those of the Go program.

use std::fmt::Write as _;
use std::path::PathBuf;

use cni_core::plugin::DOCUMENTATION;

use super::options::{Options, Source};
use super::{Context as _, Error, Result};
use crate::log::LogLevel;

/// What a flag sets.
pub(crate) enum Set {
    /// A flag with a value: where it is kept.
    Text(fn(&mut Options, &str) -> Result<()>),
    /// A switch.
    Switch(fn(&mut Options) -> &mut bool),
}

/// A flag, its value where it is absent, and where its value goes.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    help: &'static str,
    pub(crate) set: Set,
}

const fn text(
    name: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Options, &str) -> Result<()>,
) -> Flag {
    Flag { name, default, help, set: Set::Text(set) }
}

const fn switch(
    name: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Options) -> &mut bool,
) -> Flag {
    Flag { name, default, help, set: Set::Switch(set) }
}

/// A flag whose value is taken as it is.
macro_rules! kept {
    ($field:ident) => {
        |options, value| {
            options.$field = value.into();
            Ok(())
        }
    };
}

pub(crate) const FLAGS: &[Flag] = &[
    text("cni-bin-dir", "/host/opt/cni/bin", "the folder for the multus binary", kept!(cni_bin_dir)),
    text(
        "cni-conf-dir",
        "/host/etc/cni/net.d",
        "the folder for multus' configuration and kubeconfig",
        kept!(cni_conf_dir),
    ),
    text("cni-version", "", "the only cniVersion that the default network may have", |options, value| {
        options.cni_version =
            if value.is_empty() { None } else { Some(value.parse().context(|| "unknown".to_owned())?) };
        Ok(())
    }),
    text(
        "multus-conf-file",
        "auto",
        "a configuration to copy, or `auto` to make one from the default network's",
        |options, value| {
            options.multus_conf =
                if value == "auto" { Source::Auto } else { Source::File(PathBuf::from(value)) };
            Ok(())
        },
    ),
    text(
        "multus-bin-file",
        "/usr/src/multus-cni/bin/multus",
        "the multus binary to copy",
        kept!(multus_bin_file),
    ),
    text(
        "multus-cni-conf-dir",
        "/host/etc/cni/multus/net.d",
        "multus' own folder of network configurations",
        kept!(multus_cni_conf_dir),
    ),
    switch("skip-multus-binary-copy", "false", "do not copy the multus binary", |options| {
        &mut options.skip_multus_binary_copy
    }),
    text(
        "multus-kubeconfig-file-host",
        "/etc/cni/net.d/multus.d/multus.kubeconfig",
        "the kubeconfig's path on the node, as multus opens it",
        kept!(multus_kubeconfig_file_host),
    ),
    text(
        "multus-master-cni-file-name",
        "",
        "the default network's file in multus-autoconfig-dir, in place of the first one",
        kept!(multus_master_cni_file_name),
    ),
    switch("namespace-isolation", "false", "allow pods only definitions of their own namespace", |options| {
        &mut options.namespace_isolation
    }),
    text(
        "global-namespaces",
        "",
        "namespaces whose definitions all pods may use nevertheless, comma separated",
        kept!(global_namespaces),
    ),
    text(
        "multus-autoconfig-dir",
        "/host/etc/cni/net.d",
        "where the default network's configuration is looked for",
        kept!(multus_autoconfig_dir),
    ),
    switch("multus-log-to-stderr", "true", "multus logs to its standard error", |options| {
        &mut options.multus_log_to_stderr
    }),
    text("multus-log-level", "", "debug, verbose, error or panic", |options, value| {
        options.multus_log_level =
            if value.is_empty() { None } else { Some(LogLevel::parse(value).ok_or_else(unknown_level)?) };
        Ok(())
    }),
    text("multus-log-file", "", "multus' log file on the node", kept!(multus_log_file)),
    switch("override-network-name", "false", "give multus' network the default network's name", |options| {
        &mut options.override_network_name
    }),
    switch(
        "cleanup-config-on-exit",
        "false",
        "follow changes of the default network and the service account, and remove multus' \
         configuration on exit",
        |options| &mut options.cleanup_config_on_exit,
    ),
    switch("skip-config-watch", "false", "clean up on exit, but follow no changes", |options| {
        &mut options.skip_config_watch
    }),
    switch("rename-conf-file", "false", "rename the default network's file to <name>.old", |options| {
        &mut options.rename_conf_file
    }),
    text(
        "readiness-indicator-file",
        "",
        "a file that multus waits for before it serves pods",
        kept!(readiness_indicator_file),
    ),
    text(
        "additional-bin-dir",
        "",
        "a folder on the node that multus searches for plugins first",
        kept!(additional_bin_dir),
    ),
    switch("skip-tls-verify", "false", "do not verify the API server's certificate", |options| {
        &mut options.skip_tls_verify
    }),
    switch("force-cni-version", "false", "give the default network the --cni-version", |options| {
        &mut options.force_cni_version
    }),
    text(
        "service-account-dir",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "where the service account's token and ca.crt are",
        kept!(service_account_dir),
    ),
];

fn unknown_level() -> Error {
    Error::new(format!("a log level is one of {}", LogLevel::ALL.map(LogLevel::name).join(", ")))
}

/// A page on all flags and their defaults.
pub(crate) fn help() -> String {
    let mut page =
        String::from("thin_entrypoint installs multus on a node and keeps its configuration current.\n\n");
    for Flag { name, default, help, set } in FLAGS {
        let value = if matches!(set, Set::Text(_)) { " <value>" } else { "" };
        let default = match *default {
            "" | "false" => String::new(),
            default => format!(" (default {default})"),
        };
        // Writing to a String can't fail.
        let _ = writeln!(page, "  --{name}{value}\n        {help}{default}");
    }
    let _ = writeln!(page, "\nDocumentation: {DOCUMENTATION}/reference/thin_entrypoint.md");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag() {
        for flag in FLAGS {
            assert!(help().contains(&format!("--{}", flag.name)));
        }
    }
}

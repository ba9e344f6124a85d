//! The steps of the program, up to the signal that ends it.

use std::path::{Path, PathBuf};

use super::events::{Event, Events};
use super::kubeconfig::{self, ServiceAccount};
use super::master::{self, Master};
use super::options::{Options, Source};
use super::{Context as _, Error, Result, files, generate};

/// Installs multus on the node and runs until SIGTERM or SIGINT.
///
/// # Errors
/// A required file is missing, or a file can't be written. After the first time, a source that can't
/// be read is reported on standard error, and the file made from it before stays.
pub(crate) fn run(options: &Options) -> Result<()> {
    // First, so that an early signal is not lost and leaves no step half done.
    let mut events = Events::new()?;
    require_paths(options)?;
    if !options.skip_multus_binary_copy {
        files::copy(&options.multus_bin_file, &options.cni_bin_dir.join("multus"))?;
    }
    let mut node = Node::new(options)?;
    node.update_kubeconfig()?;
    match &options.multus_conf {
        Source::Auto => node.update_config()?,
        Source::File(from) => {
            files::copy(from, &copied_config(options, from)?)?;
            println!("copied {}", from.display());
        }
    }
    let followed =
        if options.follows_changes() { follow(&mut node, &mut events) } else { wait_for_stop(&events) };
    if options.cleanup_config_on_exit { clean_up(options).and(followed) } else { followed }
}

/// Requires the configured files and folders before anything is written.
fn require_paths(options: &Options) -> Result<()> {
    let require = |flag: &str, path: &Path| {
        path.metadata().map(drop).context(|| format!("--{flag}={}", path.display()))
    };
    require("cni-conf-dir", &options.cni_conf_dir)?;
    require("cni-bin-dir", &options.cni_bin_dir)?;
    if !options.skip_multus_binary_copy {
        require("multus-bin-file", &options.multus_bin_file)?;
    }
    match &options.multus_conf {
        Source::Auto => Ok(()),
        Source::File(path) => require("multus-conf-file", path),
    }
}

fn copied_config(options: &Options, from: &Path) -> Result<PathBuf> {
    let name = from
        .file_name()
        .ok_or_else(|| Error::new(format!("--multus-conf-file={} names no file", from.display())))?;
    Ok(options.cni_conf_dir.join(name))
}

fn clean_up(options: &Options) -> Result<()> {
    match &options.multus_conf {
        Source::Auto => generate::remove(options),
        Source::File(from) => files::remove(&copied_config(options, from)?),
    }
}

fn wait_for_stop(events: &Events) -> Result<()> {
    while events.wait(None)? != Event::Stop {}
    Ok(())
}

/// Reads the sources again at each change. A file is written only when its source has other content
/// than before: a configuration of ours that another process deletes stays deleted.
fn follow(node: &mut Node<'_>, events: &mut Events) -> Result<()> {
    let mut is_first = true;
    let mut reported = [None, None];
    loop {
        // The watch comes first, so that no change is lost between the two.
        for source in node.sources() {
            events.follow(&source);
        }
        for (reported, updated) in reported.iter_mut().zip([node.update_kubeconfig(), node.follow_master()]) {
            let failed = updated.err();
            if let Some(err) = failed.as_ref().filter(|err| reported.as_ref() != Some(*err)) {
                eprintln!("{err}; the file made before stays");
            }
            *reported = failed;
        }
        if std::mem::take(&mut is_first) {
            println!("following {} and the service account", node.master_path().display());
        }
        if events.wait(None)? == Event::Stop {
            return Ok(());
        }
    }
}

/// The files on the node and their sources.
struct Node<'o> {
    options: &'o Options,
    server: String,
    account: Option<ServiceAccount>,
    master: Option<Master>,
    waits_for_master: bool,
}

impl<'o> Node<'o> {
    fn new(options: &'o Options) -> Result<Self> {
        let server = kubeconfig::server_from_environment()?;
        Ok(Self { options, server, account: None, master: None, waits_for_master: false })
    }

    fn master_path(&self) -> &Path {
        self.master.as_ref().map_or(&self.options.multus_autoconfig_dir, |master| &master.path)
    }

    /// The files that are followed.
    fn sources(&self) -> Vec<PathBuf> {
        let account = &self.options.service_account_dir;
        let mut sources = vec![account.join("token"), account.join("ca.crt")];
        // Any name in the folder: another file may become the first there.
        sources.push(self.options.multus_autoconfig_dir.join("any"));
        sources.extend(self.master.as_ref().map(|master| master.path.clone()));
        sources
    }

    /// Writes the kubeconfig where the service account has changed.
    fn update_kubeconfig(&mut self) -> Result<()> {
        let account = ServiceAccount::read(self.options)?;
        if self.account.as_ref() == Some(&account) {
            return Ok(());
        }
        kubeconfig::write(self.options, &self.server, &account)?;
        println!("wrote {}", kubeconfig::path(self.options).display());
        self.account = Some(account);
        Ok(())
    }

    /// As [`Self::update_config`], but waits while the followed file is gone, because its provider is
    /// being replaced. A file that sorts after it is no substitute; one that sorts before it is the
    /// first from now on.
    fn follow_master(&mut self) -> Result<()> {
        let followed = self.master_path().to_owned();
        match master::read(self.options) {
            Ok(master) if master.path <= followed => {
                if std::mem::take(&mut self.waits_for_master) {
                    println!("{} is back", followed.display());
                }
                self.make_config(master)
            }
            Err(err) if followed.exists() => Err(err),
            Ok(_) | Err(_) => {
                let renamed_by_us = self.options.rename_conf_file && master::renamed(&followed).exists();
                if !renamed_by_us && !std::mem::replace(&mut self.waits_for_master, true) {
                    println!("{} is gone; waiting for it to come back", followed.display());
                }
                Ok(())
            }
        }
    }

    /// Writes multus' configuration where the default network's has changed.
    fn update_config(&mut self) -> Result<()> {
        self.make_config(master::read(self.options)?)
    }

    fn make_config(&mut self, master: Master) -> Result<()> {
        let is_new = self.master.as_ref().is_none_or(|before| before.bytes != master.bytes);
        if is_new {
            let generated = generate::generate(self.options, &master.path, &master.bytes)?;
            let written = generate::write(self.options, &generated)?;
            println!("wrote {} from {}", written.display(), master.path.display());
        }
        if self.options.rename_conf_file && !master.renamed {
            let to = master::renamed(&master.path);
            std::fs::rename(&master.path, &to)
                .context(|| format!("can't rename {} to {}", master.path.display(), to.display()))?;
            println!("renamed {} to {}", master.path.display(), to.display());
        }
        self.master = Some(master);
        Ok(())
    }
}

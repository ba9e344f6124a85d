//! What the program does, from the first look at the node to the signal that ends it.

use std::path::{Path, PathBuf};

use crate::events::{Event, Events};
use crate::kubeconfig::{self, ServiceAccount};
use crate::master::{self, Master};
use crate::options::{Options, Source};
use crate::{Context as _, Error, Result, config, file};

/// Puts multus on the node and stays until SIGTERM or SIGINT.
///
/// # Errors
/// A file that must be there is not, or something can't be written. Once everything was written,
/// a source that can't be read is said on standard error and waited for, and what was made of
/// it before stays.
pub fn run(options: &Options) -> Result<()> {
    // First, so that a signal that comes early is not lost, nor leaves half of the work.
    let events = Events::new()?;
    look_at_folders(options)?;
    if !options.skip_multus_binary_copy {
        file::copy(&options.multus_bin_file, &options.cni_bin_dir.join("multus"))?;
    }
    let mut node = Node::new(options)?;
    node.update_kubeconfig()?;
    match &options.multus_conf {
        Source::Auto => node.update_config()?,
        Source::File(from) => {
            file::copy(from, &copied_config(options, from)?)?;
            println!("copied {}", from.display());
        }
    }
    let followed =
        if options.follows_changes() { follow(&mut node, &events) } else { wait_for_stop(&events) };
    if options.cleanup_config_on_exit { clean_up(options).and(followed) } else { followed }
}

/// All that the program is told to use, looked at before anything is made.
fn look_at_folders(options: &Options) -> Result<()> {
    let is_there = |flag: &str, path: &Path| {
        path.metadata().map(drop).context(|| format!("--{flag}={}", path.display()))
    };
    is_there("cni-conf-dir", &options.cni_conf_dir)?;
    is_there("cni-bin-dir", &options.cni_bin_dir)?;
    // The Go program looks for it even where it is not to be copied, which nobody can rely on.
    if !options.skip_multus_binary_copy {
        is_there("multus-bin-file", &options.multus_bin_file)?;
    }
    match &options.multus_conf {
        Source::Auto => Ok(()),
        Source::File(path) => is_there("multus-conf-file", path),
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
        Source::Auto => config::remove(options),
        Source::File(from) => file::remove(&copied_config(options, from)?),
    }
}

fn wait_for_stop(events: &Events) -> Result<()> {
    while events.wait()? != Event::Stop {}
    Ok(())
}

/// Looks again whenever something changed. A look writes only where a source has other content
/// than before: a configuration of ours that someone else deletes stays deleted.
fn follow(node: &mut Node<'_>, events: &Events) -> Result<()> {
    let mut said = false;
    loop {
        // Waiting starts before the look, so that nothing falls between them.
        for source in node.sources() {
            events.follow(&source)?;
        }
        for updated in [node.update_kubeconfig(), node.follow_master()] {
            if let Err(err) = updated {
                eprintln!("{err}; what was made before stays");
            }
        }
        if !std::mem::replace(&mut said, true) {
            println!("following {} and the service account", node.master_path().display());
        }
        if events.wait()? == Event::Stop {
            return Ok(());
        }
    }
}

/// The files on the node, and what they were made from.
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

    /// The files whose changes matter.
    fn sources(&self) -> Vec<PathBuf> {
        let account = &self.options.service_account_dir;
        let mut sources = vec![account.join("token"), account.join("ca.crt")];
        // Some name in the folder: another file may come to be the first there.
        sources.push(self.options.multus_autoconfig_dir.join("any"));
        sources.extend(self.master.as_ref().map(|master| master.path.clone()));
        sources
    }

    /// Writes the kubeconfig where the service account is another than before.
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

    /// As [`Self::update_config`], but while the file that is followed is gone, its return is
    /// waited for: its provider is being replaced. A file that sorts behind it is no substitute,
    /// one that sorts before it is the first from now on.
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

    /// Writes multus' configuration where the default network's is another than before.
    fn update_config(&mut self) -> Result<()> {
        self.make_config(master::read(self.options)?)
    }

    fn make_config(&mut self, master: Master) -> Result<()> {
        let is_new = self.master.as_ref().is_none_or(|before| before.bytes != master.bytes);
        if is_new {
            let generated = config::generate(self.options, &master.path, &master.bytes)?;
            let written = config::write(self.options, &generated)?;
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

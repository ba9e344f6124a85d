//! What the service does until the signal that ends it.

use std::fs;
use std::io;
use std::path::Path;

use cni_core::fs::Folder;

use super::credentials::Credentials;
use super::options::Options;
use crate::entrypoint::error::{Context as _, Error, Result};
use crate::entrypoint::events::{Event, Events};
use crate::entrypoint::{files, generate};

/// Keeps both files current until SIGTERM or SIGINT.
///
/// # Errors
/// The kernel refuses to wait. All else is reported on standard error and tried again.
pub(crate) fn run(options: &Options) -> Result<()> {
    // First, so that an early signal is not lost and leaves no step half done.
    let mut events = Events::new()?;
    let mut credentials = Credentials::new(options);
    let mut reported: [Option<String>; 2] = [None, None];
    println!("waiting for {} and {}", options.default_network.display(), options.kubeconfig.display());
    loop {
        // The watches come first, so that no change is lost between the two.
        let multus_files = options.multus_configs().into_iter().chain([options.multus_kubeconfig()]);
        for file in
            [options.default_network.clone(), options.kubeconfig.clone()].into_iter().chain(multus_files)
        {
            events.follow(&file);
        }
        let updated = [update_kubeconfig(options, &mut credentials), update_config(options)];
        for (reported, updated) in reported.iter_mut().zip(updated) {
            report(reported, updated);
        }
        if events.wait(Some(credentials.wait()))? == Event::Stop {
            return Ok(());
        }
    }
}

/// Prints an error once, however often it comes in a row, and its end.
fn report(reported: &mut Option<String>, updated: Result<()>) {
    let failed = updated.err().map(|err| err.to_string());
    match (&failed, &*reported) {
        (Some(err), before) if before.as_ref() != Some(err) => eprintln!("{err}; trying again"),
        (None, Some(before)) => println!("no longer: {before}"),
        _ => {}
    }
    *reported = failed;
}

fn update_kubeconfig(options: &Options, credentials: &mut Credentials<'_>) -> Result<()> {
    let renewed = credentials.renew();
    if let Some(text) = credentials.text() {
        let path = options.multus_kubeconfig();
        let folder = path.parent().unwrap_or(&path);
        Folder::open_or_create(folder).context(|| format!("can't create the folder {}", folder.display()))?;
        write_if_other(&path, text)?;
    }
    renewed
}

/// Writes multus' configuration, once multus can log in.
fn update_config(options: &Options) -> Result<()> {
    let path = &options.default_network;
    let bytes = match fs::read(path) {
        // What was made before stays. Multus' STATUS reports that the default network is missing.
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(format!("the default network's {} is missing", path.display())));
        }
        read => read.context(|| format!("can't read the default network's {}", path.display()))?,
    };
    if !options.multus_kubeconfig().exists() {
        return Ok(());
    }
    let generated = generate::generate_newest(&options.generated(), path, &bytes)?;
    write_if_other(&options.conf_dir.join(generated.file_name), &generated.text)?;
    generate::remove_other(&options.conf_dir, generated.file_name)
}

/// Writes a file with mode 0600 unless it has this content already.
fn write_if_other(path: &Path, text: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    files::write(path, text.as_bytes(), 0o600)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Removes what [`run`] made: the configuration first, so that no runtime calls multus without its
/// kubeconfig.
///
/// # Errors
/// Those of removing a file; the others are tried nevertheless.
pub(crate) fn remove(options: &Options) -> Result<()> {
    let kubeconfig = options.multus_kubeconfig();
    let removed = options.multus_configs().map(|path| files::remove(&path));
    let removed = removed.into_iter().chain([files::remove(&kubeconfig)]).fold(Ok(()), Result::and);
    // A folder with files of others stays.
    let _ = fs::remove_dir(kubeconfig.parent().unwrap_or(&kubeconfig));
    removed
}

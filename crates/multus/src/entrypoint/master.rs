//! The default network's configuration on the node: the source of multus' configuration.

use std::fs;
use std::path::{Path, PathBuf};

use super::options::Options;
use super::{Context as _, Error, Result};

/// What `--rename-conf-file` appends to the name.
pub(crate) const RENAMED: &str = ".old";

/// A configuration file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    /// Its path without [`RENAMED`].
    pub(crate) path: PathBuf,
    /// Whether it was found under the name with [`RENAMED`], left by an earlier run.
    pub(crate) renamed: bool,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Reads the configured file, or the alphabetically first `.conf` or `.conflist` in the
/// folder, without multus' own.
///
/// # Errors
/// There is no such file, or it can't be read.
pub(crate) fn read(options: &Options) -> Result<Master> {
    let dir = &options.multus_autoconfig_dir;
    let path = match options.multus_master_cni_file_name.as_str() {
        "" => first(dir, options.rename_conf_file)?,
        name => dir.join(name),
    };
    let old = renamed(&path);
    // An earlier run renamed it: a restart must find it.
    let is_renamed = options.rename_conf_file && !path.exists() && old.exists();
    let file = if is_renamed { &old } else { &path };
    let bytes = fs::read(file).context(|| format!("can't read the default network's {}", file.display()))?;
    Ok(Master { path, renamed: is_renamed, bytes })
}

/// The name that `--rename-conf-file` gives to a file.
pub(crate) fn renamed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(RENAMED);
    PathBuf::from(name)
}

fn first(dir: &Path, with_renamed: bool) -> Result<PathBuf> {
    let looked_for = || format!("can't look for the default network's configuration in {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).context(looked_for)? {
        let entry = entry.context(looked_for)?;
        if entry.path().is_dir() {
            continue;
        }
        // A name that is not UTF-8 has no such ending.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    let choose = |ending: &str| {
        names
            .iter()
            .filter_map(|name| name.strip_suffix(ending))
            .find(|name| is_candidate(name))
            .map(|name| dir.join(name))
    };
    choose("").or_else(|| if with_renamed { choose(RENAMED) } else { None }).ok_or_else(|| {
        Error::new(format!(
            "no network configuration (*.conf, *.conflist) in {}: is the default network's plugin installed?",
            dir.display()
        ))
    })
}

fn is_candidate(name: &str) -> bool {
    (name.ends_with(".conf") || name.ends_with(".conflist")) && !name.starts_with("00-multus.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> (tempfile::TempDir, Options) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let dir = folder.path().display();
        let options = super::super::command_line::parse([format!("--multus-autoconfig-dir={dir}")]).unwrap();
        (folder, options)
    }

    #[test]
    fn the_first_by_name_is_taken_but_never_multus_own() {
        let (_folder, options) = folder(&[
            "00-multus.conf",
            "00-multus.conflist",
            "05-notes.json",
            "06-off.conf.old",
            "20-b.conf",
            "10-a.conflist",
        ]);
        assert_eq!(read(&options).unwrap().bytes, b"10-a.conflist");
    }

    #[test]
    fn a_folder_with_the_ending_is_no_configuration() {
        let (folder, options) = folder(&["20-b.conf"]);
        fs::create_dir(folder.path().join("10-a.conf")).unwrap();
        assert_eq!(read(&options).unwrap().bytes, b"20-b.conf");
    }

    #[test]
    fn a_configured_file_is_taken_whatever_its_ending() {
        let (_folder, mut options) = folder(&["10-a.conf", "20-b.json"]);
        options.multus_master_cni_file_name = "20-b.json".to_owned();
        assert_eq!(read(&options).unwrap().bytes, b"20-b.json");
    }

    #[test]
    fn a_renamed_file_is_found_again_only_with_the_flag() {
        let (folder, mut options) = folder(&["10-a.conf.old"]);
        assert!(read(&options).is_err());
        options.rename_conf_file = true;
        let master = read(&options).unwrap();
        assert!(master.renamed);
        assert_eq!(master.path, folder.path().join("10-a.conf"));
    }

    #[test]
    fn the_error_names_an_empty_folder() {
        let (folder, options) = folder(&["00-multus.conf"]);
        let err = read(&options).unwrap_err().to_string();
        assert!(err.contains(&folder.path().display().to_string()), "{err}");
    }
}

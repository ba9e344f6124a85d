//! Finding and loading configuration files.
//!
//! A folder of configurations holds `*.conf`, `*.conflist` and `*.json`; the first by name
//! is the one that a container runtime takes. Beside a list, the folder named like the
//! network holds further plugins of it, one to a `.conf` file (specification, section 1).

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cni_core::fs;
use cni_core::spec::{Error, NetworkName, Result};

use crate::conf::{Inherited, NetworkConf};
use crate::plugin_conf::PluginConf;

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 4 << 20;

/// The endings of files that hold a network's configuration.
pub const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// The files of a folder with one of the given endings, sorted by name. A folder that does
/// not exist has none.
///
/// # Errors
/// Those of reading the folder.
pub fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let failed = |err: std::io::Error| fs::failed("reading", folder, err);
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let wanted = path.extension().and_then(OsStr::to_str).is_some_and(|end| extensions.contains(&end));
        if wanted && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Loads a network's configuration with the plugins in the folder beside it.
///
/// # Errors
/// When the file can't be read, or is not a configuration.
pub fn from_file(path: &Path, inherited: &Inherited) -> Result<NetworkConf> {
    let text = read(path)?;
    let what = path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new("."));
    from_text(&text, &what, folder, inherited)
}

/// Loads a network's configuration from text as if it were a file in `folder`.
///
/// # Errors
/// As [`from_file`].
pub fn from_text(text: &[u8], what: &str, folder: &Path, inherited: &Inherited) -> Result<NetworkConf> {
    let mut network = NetworkConf::parse_without_folder(text, what, inherited)?;
    for file in files_beside(&network, what, folder)? {
        network.push(PluginConf::parse(&read(&file)?, &file.display().to_string())?);
    }
    Ok(network)
}

/// The files of the folder beside a list that is in `folder`, in their order: each has one more plugin of
/// the list. `what` names the list in errors.
///
/// # Errors
/// Those of reading the folder, and when neither the list nor the folder has a plugin.
pub fn files_beside(network: &NetworkConf, what: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    if !network.wants_folder() {
        return Ok(Vec::new());
    }
    let beside = folder.join(network.name().as_str());
    let files = files(&beside, &["conf"])?;
    if files.is_empty() && network.plugins().is_empty() {
        return Err(Error::invalid_config(format!("{what} has no plugins"))
            .details(format!("the folder {} has none either", beside.display())));
    }
    Ok(files)
}

/// Loads the first configuration of a folder; `None` when it has no file.
///
/// # Errors
/// When that file is not a configuration. The next file is not tried: pods would get another network
/// than the administrator configured.
pub fn first(folder: &Path, inherited: &Inherited) -> Result<Option<NetworkConf>> {
    let files = files(folder, &EXTENSIONS)?;
    files.first().map(|file| from_file(file, inherited)).transpose()
}

/// Loads the first configuration of a folder that has the given `name`. One without a name is never
/// found.
///
/// # Errors
/// When there is no such file; the error lists the names of the others, and the files that can't be
/// read.
pub fn by_name(folder: &Path, name: &NetworkName, inherited: &Inherited) -> Result<NetworkConf> {
    let inherited = &Inherited { name: None, version: inherited.version };
    let mut others = Vec::new();
    for file in files(folder, &EXTENSIONS)? {
        match from_file(&file, inherited) {
            Ok(network) if network.name() == name => return Ok(network),
            Ok(network) => others.push(network.name().to_string()),
            // Without its details, which quote the file: it may contain secrets.
            Err(err) => others.push(err.msg().to_owned()),
        }
    }
    let found = if others.is_empty() { "no configuration".to_owned() } else { others.join(", ") };
    Err(Error::invalid_config(format!("no network configuration named {name} in {}", folder.display()))
        .details(format!("found there: {found}")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let text = fs::read_bounded(path, MAX_FILE + 1).map_err(|err| fs::failed("reading", path, err))?;
    if text.len() > MAX_FILE {
        return Err(Error::invalid_config(format!(
            "{} is longer than {} MiB",
            path.display(),
            MAX_FILE >> 20
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_alphabetically_first_configuration_wins() {
        let folder = folder(&[
            ("20-a.conf", r#"{"name":"second","type":"x"}"#),
            ("10-z.conflist", r#"{"name":"first","plugins":[{"type":"x"}]}"#),
            ("00-readme.txt", "not this"),
            ("05.conf/inner", "a folder"),
        ]);
        let first = first(folder.path(), &Inherited::default()).unwrap().unwrap();
        assert_eq!(first.name().as_str(), "first");
        assert!(super::first(Path::new("/nonexistent"), &Inherited::default()).unwrap().is_none());
    }

    #[test]
    fn the_folder_beside_a_list_has_further_plugins() {
        let list = r#"{"name":"net","plugins":[{"type":"a"}]}"#;
        let only = r#"{"name":"net","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#;
        let none = r#"{"name":"net"}"#;
        let files = [
            ("1.conflist", list),
            ("2.conflist", only),
            ("3.conflist", none),
            ("net/20.conf", r#"{"type":"c"}"#),
            ("net/10.conf", r#"{"type":"b"}"#),
            ("net/30.conflist", "ignored"),
        ];
        let folder = folder(&files);
        let types = |file: &str| {
            let network = from_file(&folder.path().join(file), &Inherited::default()).unwrap();
            network.plugins().iter().map(|plugin| plugin.plugin_type().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(types("1.conflist"), ["a", "b", "c"]);
        assert_eq!(types("2.conflist"), ["a"]);
        assert_eq!(types("3.conflist"), ["b", "c"]);
    }

    #[test]
    fn the_error_for_a_missing_name_lists_the_others() {
        let folder = folder(&[("a.conf", r#"{"name":"here","type":"x"}"#), ("b.json", "{")]);
        let error = by_name(folder.path(), &"gone".parse().unwrap(), &Inherited::default()).unwrap_err();
        assert!(error.to_string().contains("here") && error.to_string().contains("b.json"), "{error}");
        assert!(by_name(folder.path(), &"here".parse().unwrap(), &Inherited::default()).is_ok());
    }

    #[test]
    fn a_configuration_without_a_name_is_never_found() {
        let folder =
            folder(&[("a.conf", r#"{"type":"unnamed"}"#), ("b.conf", r#"{"name":"net","type":"named"}"#)]);
        let name: NetworkName = "net".parse().unwrap();
        let inherited = Inherited { name: Some(name.clone()), version: None };
        let network = by_name(folder.path(), &name, &inherited).unwrap();
        assert_eq!(network.plugins()[0].plugin_type().as_str(), "named");
    }
}

//! Finds what remains of attachments after DEL.

use super::view::Place;
use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::table::Style;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where to look, and what may remain.
pub(crate) struct Search<'a> {
    pub(crate) places: &'a [Place<'a>],
    /// Links of the host that stay: its own, and bridges for the next pod.
    pub(crate) staying: &'a [&'a str],
    /// Folders of reservations.
    pub(crate) reservations: &'a [&'a str],
    /// Multus' cache.
    pub(crate) cache: &'a Path,
    /// Texts that a rule for one of the attachments would contain.
    pub(crate) patterns: &'a [&'a str],
}

impl Search<'_> {
    /// Prints what is found.
    ///
    /// # Errors
    /// Something remains.
    pub(crate) fn report(&self) -> Result<()> {
        let mut remains = false;
        let mut line = |what: &str, found: Vec<String>, nothing: &str| {
            remains |= !found.is_empty();
            let (mark, text) = match found.is_empty() {
                true => (Style::Good.paint("✓"), nothing.to_owned()),
                false => (Style::Bad.paint("✗"), found.join("; ")),
            };
            println!("  {mark} {what:<12} {text}");
        };
        line("links", self.links()?, "none (bridges stay, empty, for the next pod)");
        line("addresses", self.reserved()?, "none reserved");
        line("rules", self.rules()?, "none");
        line("cache", files_below(self.cache)?, "empty");
        if remains {
            return Err(Failure::new("something remains after DEL"));
        }
        println!("\n{}", Style::Good.paint("Nothing remains."));
        Ok(())
    }

    fn links(&self) -> Result<Vec<String>> {
        let mut remaining = Vec::new();
        for place in self.places {
            for link in place.links()? {
                let ifname = link["ifname"].as_str().unwrap_or_default();
                if place.netns.is_some() || !self.staying.contains(&ifname) {
                    remaining.push(format!("{ifname} in {}", place.title));
                }
            }
        }
        Ok(remaining)
    }

    /// Files named by an address: the lock and the round-robin marks stay.
    fn reserved(&self) -> Result<Vec<String>> {
        let mut remaining = Vec::new();
        for folder in self.reservations {
            let entries = fs::read_dir(folder).context(|| format!("can't read {folder}"))?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            remaining.extend(names.filter(|name| name.parse::<IpAddr>().is_ok()));
        }
        Ok(remaining)
    }

    fn rules(&self) -> Result<Vec<String>> {
        let nft = quietly(Command::new("nft").args(["list", "ruleset"]))?;
        // The Go plugins write iptables' rules, where that program is there.
        let iptables = quietly(&mut Command::new("iptables-save")).unwrap_or_default();
        let theirs = |line: &&str| self.patterns.iter().any(|pattern| line.contains(pattern));
        Ok(nft.lines().chain(iptables.lines()).filter(theirs).map(|line| line.trim().to_owned()).collect())
    }
}

/// All files in a folder and in those below; none where it does not exist.
fn files_below(folder: &Path) -> Result<Vec<String>> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.context(|| format!("can't read {}", folder.display()))?,
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() { folders.push(path) } else { files.push(path.display().to_string()) }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::files_below;
    use std::fs;

    #[test]
    fn files_are_found_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        assert_eq!(files_below(folder.path()).unwrap().len(), 0);
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        assert_eq!(files_below(folder.path()).unwrap().len(), 1);
        assert_eq!(files_below(&folder.path().join("none")).unwrap().len(), 0);
    }
}

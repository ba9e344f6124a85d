//! A copy of a build, for two builds to be in the same state.

use crate::dist;
use crate::error::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Copies the folder of a build with its folder `separate`, and cnictl beside it; hard links of a file stay
/// links of one.
///
/// # Errors
/// A file can't be read or written.
pub(super) fn build(from: &Path, to: &Path) -> Result<PathBuf> {
    folder(from, to)?;
    let separate = from.join("separate");
    if separate.is_dir() {
        folder(&separate, &to.join("separate"))?;
    }
    let tool = from.with_file_name(dist::TOOL);
    if tool.is_file() {
        fs::copy(&tool, to.with_file_name(dist::TOOL))
            .context(|| format!("can't copy {}", tool.display()))?;
    }
    Ok(to.to_owned())
}

fn folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(|| format!("can't make {}", to.display()))?;
    let mut copies: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(from).context(|| format!("can't read {}", from.display()))? {
        let path = entry.context(|| format!("can't read {}", from.display()))?.path();
        let metadata = fs::metadata(&path).context(|| format!("can't read {}", path.display()))?;
        let Some(name) = path.file_name().filter(|_| metadata.is_file()) else { continue };
        let copy = to.join(name);
        let copied = match copies.get(&metadata.ino()) {
            Some(first) => fs::hard_link(first, &copy),
            None => fs::copy(&path, &copy).map(drop),
        };
        copied.context(|| format!("can't copy {}", path.display()))?;
        copies.entry(metadata.ino()).or_insert(copy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{build, dist};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn names_of_one_file_stay_names_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from/bin"), folder.path().join("to/bin"));
        fs::create_dir_all(from.join("separate")).unwrap();
        for name in ["oxcni", "other", "separate/bridge"] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::hard_link(from.join("oxcni"), from.join("bridge")).unwrap();
        fs::write(folder.path().join("from").join(dist::TOOL), "tool").unwrap();
        build(&from, &to).unwrap();
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("oxcni"), inode("bridge"));
        assert_ne!(inode("oxcni"), inode("other"));
        assert_ne!(inode("oxcni"), fs::metadata(from.join("oxcni")).unwrap().ino());
        assert_eq!(fs::read(to.join("separate/bridge")).unwrap(), b"separate/bridge");
        assert_eq!(fs::read(to.with_file_name(dist::TOOL)).unwrap(), b"tool");
    }
}

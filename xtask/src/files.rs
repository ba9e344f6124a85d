//! Reading, writing and copying files, with errors that name them.

use crate::error::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is in a folder, in the order of names.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context(|| format!("can't read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

/// The files in a folder and in all folders below it.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// The text of a file.
pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).context(|| format!("can't read {}", file.display()))
}

/// Writes a file, and makes the folders above it.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    make_folder_of(file)?;
    fs::write(file, text).context(|| format!("can't write {}", file.display()))
}

/// Copies a file with a mode, and makes the folders above the copy.
pub(crate) fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_folder_of(to)?;
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .context(|| format!("can't copy {} to {}", from.display(), to.display()))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("can't make {}", folder.display()))
}

/// Makes the folder that a file is in.
pub(crate) fn make_folder_of(file: &Path) -> Result<()> {
    file.parent().map_or(Ok(()), make_folder)
}

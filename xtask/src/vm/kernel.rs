//! The stock Debian kernel: downloaded once, unpacked into a folder, never installed.

use crate::debian::apt_get;
use crate::error::{Context, Failure, Result};
use crate::process::{quietly, run};
use crate::progress::Progress;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's name for "the newest stock kernel". Its `-cloud-` flavour has no 9p.
const META_PACKAGE: &str = "linux-image-amd64";

/// What must be loaded before the host's root can be mounted. Dependencies are added.
const NEEDED_TO_MOUNT: [&str; 8] =
    ["virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "ext4", "9pnet_virtio", "9p", "overlay"];

/// An unpacked kernel with its modules indexed.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The folder that holds `boot/` and `lib/modules/`.
    pub(crate) folder: PathBuf,
    /// Such as `6.1.0-56-amd64`.
    pub(crate) release: String,
}

impl Kernel {
    /// Returns the kernel below `cache`; downloads and unpacks it if it is not there.
    pub(crate) fn obtain(cache: &Path, progress: &Progress) -> Result<Self> {
        let folder = cache.join("kernel");
        if !folder.exists() {
            fetch(cache, &folder, progress)?;
        }
        let modules = folder.join("lib/modules");
        let release = fs::read_dir(&modules)
            .context(|| format!("can't read {}", modules.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .next()
            .ok_or_else(|| Failure::new(format!("no kernel in {}", modules.display())))?;
        Ok(Self { folder, release })
    }

    /// The image to boot: uncompressed where we could make one, as unpacking takes 3 s in emulation.
    pub(crate) fn image(&self) -> PathBuf {
        let boot = self.folder.join("boot");
        let uncompressed = boot.join(format!("vmlinux-{}", self.release));
        if uncompressed.exists() { uncompressed } else { boot.join(format!("vmlinuz-{}", self.release)) }
    }

    /// The modules needed to mount the host's root, each after those it depends on.
    pub(crate) fn boot_modules(&self) -> Result<Vec<PathBuf>> {
        let modules = self.folder.join("lib/modules").join(&self.release);
        let index = modules.join("modules.dep");
        let text = fs::read_to_string(&index).context(|| format!("can't read {}", index.display()))?;
        let order = load_order(&text, &NEEDED_TO_MOUNT)?;
        Ok(order.iter().map(|path| modules.join(path)).collect())
    }
}

/// Downloads the package and unpacks it beside its final place, so that a kernel that
/// is there is complete.
fn fetch(cache: &Path, folder: &Path, progress: &Progress) -> Result<()> {
    let staging = cache.join("kernel.new");
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).context(|| format!("can't make {}", staging.display()))?;
    let package = versioned_package(progress)?;
    progress.print(format!("Fetching {package} (70 MB, once)"));
    quietly(apt_get().arg("download").arg(&package).current_dir(&staging))?;
    let archive = fs::read_dir(&staging)
        .context(|| format!("can't read {}", staging.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or_else(|| Failure::new(format!("apt-get downloaded no package to {}", staging.display())))?;
    progress.print("Unpacking it and indexing its modules");
    quietly(Command::new("dpkg").arg("-x").arg(&archive).arg(&staging))?;
    fs::remove_file(&archive).context(|| format!("can't remove {}", archive.display()))?;
    let release = package.trim_start_matches("linux-image-");
    quietly(Command::new("/sbin/depmod").arg("-b").arg(&staging).arg(release))?;
    uncompress(&staging.join("boot"), release)?;
    fs::rename(&staging, folder).context(|| format!("can't make {}", folder.display()))
}

/// Writes the ELF image that is packed in `vmlinuz-*` beside it, where it is packed by xz.
///
/// Its place is in the setup header: <https://docs.kernel.org/arch/x86/boot.html>.
fn uncompress(boot: &Path, release: &str) -> Result<()> {
    let packed = boot.join(format!("vmlinuz-{release}"));
    let image = fs::read(&packed).context(|| format!("can't read {}", packed.display()))?;
    let Some(payload) = payload(&image).filter(|bytes| bytes.starts_with(b"\xfd7zXZ\0")) else {
        return Ok(());
    };
    let archive = boot.join("payload.xz");
    fs::write(&archive, payload).context(|| format!("can't write {}", archive.display()))?;
    let elf = boot.join(format!("vmlinux-{release}"));
    let to = fs::File::create(&elf).context(|| format!("can't make {}", elf.display()))?;
    // The payload ends with its unpacked size, which is no part of the stream.
    run(Command::new("xz").args(["-dc", "--single-stream"]).arg(&archive).stdout(to))?;
    fs::remove_file(&archive).context(|| format!("can't remove {}", archive.display()))
}

/// The compressed kernel inside a bzImage.
fn payload(image: &[u8]) -> Option<&[u8]> {
    const SECTOR: usize = 512;
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * SECTOR + number(0x248)?;
    image.get(start..start + number(0x24c)?)
}

/// The package that the meta package depends on at present, such as `linux-image-6.1.0-56-amd64`.
fn versioned_package(progress: &Progress) -> Result<String> {
    let depends = || quietly(Command::new("apt-cache").args(["depends", META_PACKAGE]));
    let find = |text: String| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
    };
    if let Some(name) = depends().ok().and_then(find) {
        return Ok(name);
    }
    progress.print("Fetching Debian's package lists");
    quietly(apt_get().arg("update"))?;
    depends().map(find)?.ok_or_else(|| Failure::new(format!("Debian's {META_PACKAGE} depends on no kernel")))
}

/// Paths of `wanted` and all they depend on, in an order in which `insmod` can load them.
///
/// `index` is depmod's `modules.dep`: a line `PATH: DEPENDENCY...` each, dependencies complete and
/// the first to load last.
fn load_order(index: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let by_name: HashMap<String, (&str, &str)> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, dependencies)| (module_name(path), (path, dependencies)))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let Some((path, dependencies)) = by_name.get(*name) else {
            return Err(Failure::new(format!("the kernel has no module {name}")));
        };
        for path in dependencies.split_whitespace().rev().chain([*path]) {
            if !order.iter().any(|loaded| loaded == path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko` → `9p`; a dash in a file's name is an underscore in the module's.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::load_order;

    const INDEX: &str = "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n\
                         kernel/net/9p/9pnet.ko:\n\
                         kernel/fs/netfs/netfs.ko:\n\
                         kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko\n";

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_once() {
        let order = load_order(INDEX, &["9p", "9pnet_virtio"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/fs/netfs/netfs.ko",
                "kernel/net/9p/9pnet.ko",
                "kernel/fs/9p/9p.ko",
                "kernel/net/9p/9pnet_virtio.ko"
            ]
        );
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let failure = load_order(INDEX, &["zfs"]).unwrap_err();
        assert!(failure.to_string().contains("zfs"));
    }
}

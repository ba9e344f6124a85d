use std::path::{Path, PathBuf};

/// A folder of plugins: which programs a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugins {
    /// Ours, one program under all names: delegates run in its own process.
    Multicall,
    /// Ours, one program for each plugin: delegates are executed.
    Separate,
    /// The Go plugins of Debian's package (1.1.1), in `/usr/lib/cni`.
    Go,
    /// Any other folder, which the environment variable `OXCNI_RECORD_FROM` names: for
    /// recording what other plugins do.
    Recorded,
    /// A folder that a package installed programs in.
    In(&'static Path),
}

impl Plugins {
    /// The two ways in which ours are installed.
    pub const OURS: [Self; 2] = [Self::Multicall, Self::Separate];

    /// The flavours of ours to compare with others: both, but one where the processor is emulated
    /// (`OXCNI_EMULATED=1`) and every process costs forty times as much.
    pub fn ours() -> &'static [Self] {
        if crate::budget::emulated() { &Self::OURS[..1] } else { &Self::OURS }
    }

    /// Where the programs are: `OXCNI_BIN_DIR` or what `cargo xtask dist` makes, for ours.
    pub fn dir(self) -> PathBuf {
        match self {
            Self::Multicall => our_dir(),
            Self::Separate => our_dir().join("separate"),
            Self::Go => PathBuf::from("/usr/lib/cni"),
            Self::In(folder) => folder.to_owned(),
            Self::Recorded => PathBuf::from(
                std::env::var_os("OXCNI_RECORD_FROM").expect("OXCNI_RECORD_FROM names a plugin folder"),
            ),
        }
    }
}

pub(crate) fn our_dir() -> PathBuf {
    std::env::var_os("OXCNI_BIN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/bin"), PathBuf::from)
}

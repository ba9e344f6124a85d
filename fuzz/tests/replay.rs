//! Runs the fuzz targets on the committed corpus and on what once crashed, in an ordinary build.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxcni_fuzz::{READERS, TARGETS};

/// The longest time for one input, also on an emulated processor and in a debug build.
const LIMIT: Duration = Duration::from_secs(5);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files below a folder of inputs; none where it does not exist.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder(kind).join(target)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// How often an input is tried, each time with one more space behind it: every plugin reads each configuration.
fn variants(target: &str) -> usize {
    if target == "configuration" { READERS.len() } else { 1 }
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "corpus/{name} is empty");
    for file in corpus.into_iter().chain(inputs("crashes", name)) {
        let mut bytes = fs::read(&file).unwrap();
        for _ in 0..variants(name) {
            let begun = Instant::now();
            // A panic names the input.
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{} makes the target panic, see above", file.display());
            assert!(begun.elapsed() < LIMIT, "{} takes {:?}", file.display(), begun.elapsed());
            bytes.push(b' ');
        }
    }
}

/// One test per target, so that the results name the one that fails.
macro_rules! replayed {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus() {
            let tested = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(tested, known);
            let folders = fs::read_dir(folder("corpus")).unwrap();
            let folders: BTreeSet<String> =
                folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(folders, known);
        }
    };
}

replayed!(annotation caches configuration definition dhcp kubeconfig manifests netfilter netlink reservations result);

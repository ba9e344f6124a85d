//! Puts the case files and the built-in profiles into the program, so that it is one file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    for (constant, folder) in [("CASES", "cases"), ("PROFILES", "profiles")] {
        println!("cargo::rerun-if-changed={folder}");
        let folder = root.join(folder);
        let mut files = Vec::new();
        collect(&folder, &mut files);
        files.sort();
        writeln!(source, "pub(crate) const {constant}: &[(&str, &str)] = &[").expect("to a string");
        for file in files {
            let name = file.strip_prefix(&root).expect("below the root").display();
            writeln!(source, "    ({:?}, include_str!({:?})),", name.to_string(), file).expect("to a string");
        }
        writeln!(source, "];").expect("to a string");
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("embedded.rs"), source).expect("the output folder can be written");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).expect("the folder of data can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

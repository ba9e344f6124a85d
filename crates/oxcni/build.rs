//! Hands the linker the order in which the program's functions stand.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/layout.ld");
    println!("cargo::rerun-if-changed=layout.ld");
}

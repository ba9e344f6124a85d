//! The packages as an administrator gets them: by rpm and dnf, or dpkg, on machines that are folders.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

mod debian;
mod greenboot;
mod image;
mod install;
mod lint;
mod machine;
mod swap;
mod systemd;

/// Makes tests that run on the kernel at hand: packages are the same on every one.
#[macro_export]
macro_rules! packages_test {
    ($( fn $name:ident $body:block )*) => {$(
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            if oxcni_tests::requirement::met_on_any_kernel(test, &[], "packages are files") {
                $body
            }
        }
    )*};
}

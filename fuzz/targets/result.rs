//! Fuzzes results of plugins, written in all versions and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::result(bytes));

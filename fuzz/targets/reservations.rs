//! Fuzzes host-local's reservation and index files, and resolv.conf.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::reservations(bytes));

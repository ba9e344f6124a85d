//! Fuzzes annotations that select networks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::annotation(bytes));

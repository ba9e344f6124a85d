//! Fuzzes answers of nf_tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::netfilter(bytes));

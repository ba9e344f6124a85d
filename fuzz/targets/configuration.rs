//! Fuzzes network configurations, read by every plugin.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::configuration(bytes));

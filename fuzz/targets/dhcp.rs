//! Fuzzes messages of DHCP servers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::dhcp(bytes));

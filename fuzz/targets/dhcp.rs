//! Fuzzes messages of DHCPv4 and DHCPv6 servers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::dhcp(bytes));

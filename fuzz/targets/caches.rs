//! Fuzzes multus' delegates, libcni's results, and the kubelet's devices.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::caches(bytes));

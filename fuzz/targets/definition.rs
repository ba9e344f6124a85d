//! Fuzzes the configuration in a NetworkAttachmentDefinition.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxcni_fuzz::definition(bytes));

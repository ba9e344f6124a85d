//! Hashes that are written to files.
//!
//! The files outlive the process and the version of the program, so a hash must never change
//! without the format of its file. The standard library's hashes make no such promise. This is
//! FNV-1a with the last step of SplitMix64, which spreads the bits.

use cni_core::fnv::fnv1a;

/// The hash of some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    mix(fnv1a(bytes))
}

/// Spreads the bits of a number over all of it.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

//! Numbers that stand for owners and blocks in the index.
//!
//! The file outlives the process, and perhaps the version of the program, so these must
//! never change without the index' format: the standard library's hashes promise no such
//! thing. FNV-1a with the last step of SplitMix64 to spread it.

use cni_core::fnv::fnv1a;

use crate::reservation::Owner;

/// Spreads the bits of a number over all of it.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number for some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    mix(fnv1a(bytes))
}

/// A number for an owner.
pub(super) fn of_owner(owner: &Owner) -> u64 {
    of_bytes(&owner.contents())
}

/// The number under which the index has an owner's n-th address. Were it the owner's own
/// number, an owner of thousands of addresses would make one long run in the table.
pub(super) fn of_nth(owner: u64, n: u64) -> u64 {
    mix(owner.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

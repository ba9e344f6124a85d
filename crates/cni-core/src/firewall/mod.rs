//! Firewall rules that several plugins make.

mod iptables;
mod masquerade;

use sha2::{Digest, Sha512};

use crate::netfilter::{Failure, Netfilter, Transaction};
use crate::spec::{Code, Error, Result};

pub use masquerade::{ADDRESSES_MAX, Masquerade};

/// Looks up and changes rules, see [`Netfilter::retry`]. `None` where the kernel has no nf_tables:
/// then there are no rules.
///
/// # Errors
/// [`Code::FIREWALL`].
pub fn change<T>(change: impl FnMut(&Netfilter) -> Result<T, Failure>) -> Result<Option<T>> {
    Netfilter::retry(change).map_err(failed)
}

/// Adds rules, which needs nf_tables.
///
/// # Errors
/// [`Code::FIREWALL`], also where the kernel has no nf_tables.
pub fn add(key: &str, add: impl FnMut(&Netfilter) -> Result<(), Failure>) -> Result<()> {
    change(add)?.ok_or_else(|| without_nf_tables(key))
}

/// Requires, for STATUS, that the rules which a key of the configuration needs could be added.
///
/// # Errors
/// [`Code::UNAVAILABLE`].
pub fn require(key: &str, sample: impl Fn(&Netfilter) -> Result<Transaction, Failure>) -> Result<()> {
    let operation = format!("checking the rules of {key}");
    let checked = Netfilter::retry(|netfilter| netfilter.check(&sample(netfilter)?, &operation));
    match checked {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(without_nf_tables(key)),
        Err(failure) => Err(failed(failure)),
    }
    .map_err(|err| err.with_code(Code::UNAVAILABLE))
}

/// The first hexadecimal digits of the SHA-512 of a text, by which the Go plugins name things.
pub fn hash(text: &str, digits: usize) -> String {
    let mut hex: String = Sha512::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

fn failed(failure: Failure) -> Error {
    Error::from(failure).with_code(Code::FIREWALL)
}

fn without_nf_tables(key: &str) -> Error {
    Error::new(Code::FIREWALL, format!("{key} needs nf_tables, which this kernel does not have")).details(
        "the kernel is built without it, or its module can't be loaded; iptables is not used instead",
    )
}

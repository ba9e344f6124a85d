//! Firewall rules, through the `nft` program.

mod iptables;
mod masquerade;

use nftables::batch::Batch;
use nftables::helper::{self, NftablesError};
use nftables::schema::{NfListObject, NfObject, Rule};

use crate::spec::{Code, Error, Result};

pub use masquerade::Masquerade;
pub use nftables;

/// Applies rules in one transaction: all of them or none.
///
/// # Errors
/// [`Code::FIREWALL`], with what `nft` said.
pub fn apply(batch: Batch<'_>, doing: &str) -> Result<()> {
    helper::apply_ruleset(&batch.to_nftables()).map_err(|err| failed(doing, err))
}

/// The rules of a chain; none where there is no such chain.
///
/// # Errors
/// [`Code::FIREWALL`] when `nft` can't be run or understood.
pub fn rules(family: &str, table: &str, chain: &str) -> Result<Vec<Rule<'static>>> {
    let doing = format!("listing the rules of {family} {table} {chain}");
    match helper::get_current_ruleset_with_args(helper::DEFAULT_NFT, ["list", "chain", family, table, chain])
    {
        Ok(ruleset) => Ok(ruleset.objects.iter().cloned().filter_map(rule).collect()),
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file or directory") => {
            Ok(Vec::new())
        }
        Err(err) => Err(failed(&doing, err)),
    }
}

fn rule(object: NfObject<'static>) -> Option<Rule<'static>> {
    match object {
        NfObject::ListObject(NfListObject::Rule(rule)) => Some(rule),
        _ => None,
    }
}

/// Whether `nft` can be run at all: where it can't, no rule of ours is there to be removed.
pub fn available() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("nft").is_file()))
}

fn failed(doing: &str, err: NftablesError) -> Error {
    let error = |said: String| Error::new(Code::FIREWALL, format!("{doing}: {said}"));
    match err {
        NftablesError::NftFailed { stderr, .. } => {
            let said = stderr.lines().next().unwrap_or("nft failed").to_owned();
            error(said).details("nft said so; the kernel may lack nf_tables or this family of it")
        }
        NftablesError::NftExecution { inner, .. } => {
            error(format!("running nft: {inner}")).details("the nft program is needed for firewall rules")
        }
        other => error(other.to_string()),
    }
}

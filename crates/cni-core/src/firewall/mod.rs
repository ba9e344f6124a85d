//! Firewall rules, through the `nft` program.

mod iptables;
mod masquerade;

use nftables::batch::Batch;
use nftables::helper::{self, NftablesError};
use nftables::schema::Rule;
use serde::Deserialize;
use serde_json::{Value, json};

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

/// The rules of a chain; none where there is no such chain. One of somebody else's that says
/// what is not understood here has no statements.
///
/// # Errors
/// [`Code::FIREWALL`] when `nft` can't be run or understood.
pub fn rules(family: &str, table: &str, chain: &str) -> Result<Vec<Rule<'static>>> {
    let doing = || format!("listing the rules of {family} {table} {chain}");
    let args = ["list", "chain", family, table, chain];
    match helper::get_current_ruleset_raw(helper::DEFAULT_NFT, args) {
        Ok(listed) => read_rules(&listed)
            .map_err(|err| Error::new(Code::FIREWALL, format!("{}: nft said {err}", doing()))),
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file or directory") => {
            Ok(Vec::new())
        }
        Err(err) => Err(failed(&doing(), err)),
    }
}

fn read_rules(listed: &str) -> serde_json::Result<Vec<Rule<'static>>> {
    #[derive(Deserialize)]
    struct Listed {
        nftables: Vec<Object>,
    }
    /// Everything but a rule is passed over.
    #[derive(Deserialize)]
    struct Object {
        rule: Option<Value>,
    }
    let listed: Listed = serde_json::from_str(listed)?;
    listed.nftables.into_iter().filter_map(|object| object.rule).map(read_rule).collect()
}

fn read_rule(mut rule: Value) -> serde_json::Result<Rule<'static>> {
    serde_json::from_value(rule.clone()).or_else(|_| {
        rule["expr"] = json!([]);
        serde_json::from_value(rule)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_not_understood_hides_no_other() {
        let listed = r#"{"nftables": [
            {"metainfo": {"version": "1.0.9"}},
            {"rule": {"family": "bridge", "table": "nat", "chain": "PREROUTING", "handle": 3, "comment": "theirs",
                      "expr": [{"invented": {"later": true}}]}},
            {"rule": {"family": "bridge", "table": "nat", "chain": "PREROUTING", "handle": 4, "comment": "ours",
                      "expr": [{"drop": null}]}}]}"#;
        let rules = read_rules(listed).unwrap();
        let said =
            |rule: &Rule<'_>| (rule.handle, rule.comment.as_deref().map(str::to_owned), rule.expr.len());
        let said: Vec<_> = rules.iter().map(said).collect();
        assert_eq!(said, [(Some(3), Some("theirs".to_owned()), 0), (Some(4), Some("ours".to_owned()), 1)]);
    }
}

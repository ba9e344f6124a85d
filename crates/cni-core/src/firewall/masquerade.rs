//! Masquerading what containers send beyond their subnet.
//!
//! Table, chains and comments are those of the Go plugins, so that each finds and removes what
//! the other made: a rule for every address, found by a comment that begins with a hash of
//! the network and one of interface and container.

use std::net::IpAddr;

use super::{add, change, hash, iptables, require};
use crate::netfilter::{
    Chain, ChainKind, Comparison, Expression, Failure, Family, Field, Hook, Netfilter, Rule, Table,
    Transaction, Verdict,
};
use crate::spec::{Attachment, Cidr, Error, NetworkName, Result};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "cni_plugins_masquerade" };
const CHECKS: &str = "masq_checks";

/// The longest comment that nft(8) allows (`NFTNL_UDATA_COMMENT_MAXLEN`).
const COMMENT_MAX: usize = 128;

/// The most addresses of one attachment that are masqueraded: there is a rule for each, which
/// every packet that leaves the node passes.
pub const ADDRESSES_MAX: usize = 256;

/// The masquerading of one attachment.
#[derive(Clone, Copy, Debug)]
pub struct Masquerade<'a> {
    /// The network.
    pub network: &'a NetworkName,
    /// The container and its interface.
    pub attachment: &'a Attachment,
}

impl Masquerade<'_> {
    /// Masquerades what comes from the addresses and goes beyond their subnets. Rules that an earlier
    /// ADD of this attachment left are replaced.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`], and [`crate::spec::Code::INVALID_CONFIG`] for more than
    /// [`ADDRESSES_MAX`] addresses; nothing is changed then.
    pub fn set_up(self, addresses: &[Cidr]) -> Result<()> {
        if addresses.len() > ADDRESSES_MAX {
            let msg = format!("ipMasq: {} addresses are more than {ADDRESSES_MAX}", addresses.len());
            return Err(
                Error::invalid_config(msg).details("there is a rule for each, which all packets pass")
            );
        }
        add("ipMasq", |netfilter| {
            let stale = self.rules(netfilter)?;
            let mut transaction = with_chains(netfilter)?;
            stale.iter().for_each(|rule| transaction.delete_rule(&checks(), rule));
            for address in addresses {
                transaction.add_rule(&checks(), &rule(*address).comment(self.comment()));
            }
            netfilter.commit(&transaction, "adding masquerade rules")
        })
    }

    /// Removes the rules, and those that the Go plugins made with iptables.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`] when one of them remains.
    pub fn tear_down(self) -> Result<()> {
        let removed = delete(|comment| comment.starts_with(&self.mark()));
        let by_iptables = iptables::tear_down(self.network, &self.attachment.container_id);
        Error::all(removed.err().into_iter().chain(by_iptables.err()).collect())
    }

    /// Requires, for CHECK, that the addresses are masqueraded, by rules of nf_tables or of
    /// iptables, as the Go plugins may have made them.
    ///
    /// # Errors
    /// [`crate::spec::Code::CHECK_FAILED`] when one is not, [`crate::spec::Code::FIREWALL`] when
    /// that can't be known.
    pub fn check(self, addresses: &[Cidr]) -> Result<()> {
        let found = change(|netfilter| self.rules(netfilter))?.unwrap_or_default();
        let source = |address: &Cidr| source(*address);
        let missing = |address: &&Cidr| {
            let source = source(address);
            !found.iter().any(|rule| rule.expressions.starts_with(&source))
        };
        let Some(address) = addresses.iter().find(missing) else { return Ok(()) };
        if found.is_empty() && iptables::has_chain(self.network, &self.attachment.container_id)? {
            return Ok(());
        }
        Err(Error::check(format!("ipMasq: address {} is not masqueraded", address.ip())))
    }

    /// Requires, for STATUS, that rules could be added.
    ///
    /// # Errors
    /// [`crate::spec::Code::UNAVAILABLE`].
    pub fn require() -> Result<()> {
        require("ipMasq", |netfilter| {
            let mut transaction = with_chains(netfilter)?;
            // Where the chains exist, rules were added before.
            if !transaction.is_empty() {
                transaction.add_rule(&checks(), &Rule::new([Expression::Masquerade]));
            }
            Ok(transaction)
        })
    }

    /// Removes the rules of all attachments of a network but the valid ones.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`] when one of them remains.
    pub fn collect(network: &NetworkName, valid: &[Attachment]) -> Result<()> {
        let of_network = format!("{}-", hash(network, 16));
        let valid_marks: Vec<_> =
            valid.iter().map(|attachment| Masquerade { network, attachment }.mark()).collect();
        let removed = delete(|comment| {
            comment.starts_with(&of_network) && !valid_marks.iter().any(|mark| comment.starts_with(mark))
        });
        let by_iptables = iptables::collect(network, valid);
        Error::all(removed.err().into_iter().chain(by_iptables.err()).collect())
    }

    /// The rules of nf_tables that masquerade containers, of whichever network: the comment of each, and
    /// the address that it masquerades, where it has the form of these rules.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`].
    pub fn of_node() -> Result<Vec<(String, Option<IpAddr>)>> {
        let rules = change(|netfilter| netfilter.rules(&checks(), |_| true))?.unwrap_or_default();
        let with_comment = |rule: Rule| {
            let address = source_of(&rule);
            Some((rule.comment?, address))
        };
        Ok(rules.into_iter().filter_map(with_comment).collect())
    }

    /// Whether a rule with this comment belongs to this attachment.
    pub fn owns(self, comment: &str) -> bool {
        comment.starts_with(&self.mark())
    }

    /// Removes the rules with a comment.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`] when one of them remains.
    pub fn remove(comment: &str) -> Result<()> {
        delete(|other| other == comment)
    }

    /// What the comments of its rules begin with.
    fn mark(self) -> String {
        let Attachment { container_id, ifname } = self.attachment;
        format!("{}-{}", hash(self.network, 16), hash(&format!("{ifname}:{container_id}"), 16))
    }

    fn comment(self) -> String {
        let Attachment { container_id, ifname } = self.attachment;
        let mut comment = format!("{}, net: {}, if: {ifname}, id: {container_id}", self.mark(), self.network);
        // nft(8) has no way to quote a quote; an interface name may have one.
        comment.retain(|c| c != '"');
        comment.truncate(comment.floor_char_boundary(COMMENT_MAX));
        comment
    }

    fn rules(self, netfilter: &Netfilter) -> Result<Vec<Rule>, Failure> {
        let mark = self.mark();
        netfilter.rules(&checks(), |comment| comment.starts_with(&mark))
    }
}

fn checks() -> Chain<'static> {
    TABLE.chain(CHECKS)
}

fn source(address: Cidr) -> Vec<Expression> {
    let host = Cidr::host(address.ip());
    Expression::ip(Field::Source, Comparison::Eq, host.ip(), host.prefix())
}

/// The address that a rule masquerades.
fn source_of(rule: &Rule) -> Option<IpAddr> {
    let Some(Expression::Compare(Comparison::Eq, bytes)) = rule.expressions.get(3) else { return None };
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()?;
    rule.expressions.starts_with(&source(Cidr::host(address))).then_some(address)
}

fn rule(address: Cidr) -> Rule {
    let mut expressions = source(address);
    // The family is given by the source already, and nft(8) would list a second condition on it.
    let beyond = Expression::ip(Field::Destination, Comparison::Ne, address.ip(), address.prefix());
    expressions.extend(beyond.into_iter().skip(2));
    expressions.push(Expression::Masquerade);
    Rule::new(expressions)
}

fn delete(stale: impl Fn(&str) -> bool) -> Result<()> {
    change(|netfilter| {
        let mut transaction = Transaction::new();
        for rule in netfilter.rules(&checks(), &stale)? {
            transaction.delete_rule(&checks(), &rule);
        }
        netfilter.commit(&transaction, "removing masquerade rules")
    })
    .map(|_| ())
}

/// A transaction that makes what is missing of the table and its chains: mostly nothing. The
/// kernel would take adding them again for an update, whose end the caller has to wait for.
fn with_chains(netfilter: &Netfilter) -> Result<Transaction, Failure> {
    let postrouting = TABLE.chain("postrouting").based(ChainKind::Nat, Hook::Postrouting, 100);
    let entry = entry();
    let found = netfilter.rules(&postrouting, |_| true)?;
    // Other versions of nft(8) express the conditions differently.
    if found.len() == entry.len() && found.last().map(|rule| &rule.expressions) == Some(&entry[2].expressions)
    {
        return Ok(Transaction::new());
    }
    let mut transaction = Transaction::unless_changed(netfilter);
    transaction.add_table(TABLE);
    transaction.add_chain(&checks());
    transaction.add_chain(&postrouting);
    if !found.is_empty() {
        transaction.flush_chain(&postrouting);
    }
    entry.iter().for_each(|rule| transaction.add_rule(&postrouting, rule));
    Ok(transaction)
}

/// The rules by which packets reach those of the attachments: multicast is never masqueraded.
fn entry() -> [Rule; 3] {
    let multicast = |address: IpAddr, prefix| {
        let mut expressions = Expression::ip(Field::Destination, Comparison::Eq, address, prefix);
        expressions.push(Expression::Verdict(Verdict::Return));
        Rule::new(expressions)
    };
    let goto = Rule::new([Expression::Verdict(Verdict::Goto(CHECKS.to_owned()))]);
    let v6 = [0xff00, 0, 0, 0, 0, 0, 0, 0];
    [multicast([224, 0, 0, 0].into(), 4), multicast(v6.into(), 8), goto]
}
#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: &str) -> Attachment {
        Attachment { container_id: id.parse().unwrap(), ifname: "eth0".parse().unwrap() }
    }

    #[test]
    fn comments_are_those_of_the_go_plugins() {
        let (network, attachment) = ("net".parse().unwrap(), attachment("c1"));
        let masquerade = Masquerade { network: &network, attachment: &attachment };
        // printf net | sha512sum, printf eth0:c1 | sha512sum
        assert_eq!(masquerade.comment(), "a4861f4ae9f7d238-f4d01f2ef4b92245, net: net, if: eth0, id: c1");
    }

    #[test]
    fn a_rule_says_which_address_it_masquerades() {
        for text in ["10.1.2.3/24", "fd00::2/64"] {
            let cidr: Cidr = text.parse().unwrap();
            assert_eq!(source_of(&rule(cidr)), Some(cidr.ip()));
        }
        let [multicast, ..] = entry();
        assert_eq!(source_of(&multicast), None);
    }

    #[test]
    fn a_comment_fits_into_the_kernel() {
        let (network, attachment) = ("n".repeat(200).parse().unwrap(), attachment(&"c".repeat(64)));
        let comment = Masquerade { network: &network, attachment: &attachment }.comment();
        assert_eq!(comment.len(), COMMENT_MAX);
    }
}

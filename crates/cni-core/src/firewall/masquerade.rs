//! Masquerading what containers send beyond their subnet.
//!
//! Table, chain and comments are those of the Go plugins, so that each finds and removes what
//! the other made: a rule for every address, known by a comment that begins with a hash of
//! the network and one of interface and container.

use nftables::batch::Batch;
use nftables::expr::{Expression, NamedExpression, Payload, PayloadField, Prefix};
use nftables::schema::{Chain, FlushObject, NfCmd, NfListObject, Rule, Table};
use nftables::stmt::{JumpTarget, Match, Operator, Statement};
use nftables::types::{NfChainType, NfFamily, NfHook};
use sha2::{Digest, Sha512};

use super::{apply, available, iptables, rules};
use crate::spec::{Attachment, Cidr, NetworkName, Result};

const TABLE: &str = "cni_plugins_masquerade";
const CHAIN: &str = "masq_checks";
const POSTROUTING: &str = "postrouting";

/// The longest comment that the kernel keeps (`NFTNL_UDATA_COMMENT_MAXLEN`).
const COMMENT_MAX: usize = 128;

/// The masquerading of one attachment.
#[derive(Clone, Copy, Debug)]
pub struct Masquerade<'a> {
    /// The network.
    pub network: &'a NetworkName,
    /// The container and its interface.
    pub attachment: &'a Attachment,
}

impl Masquerade<'_> {
    /// Masquerades what comes from the addresses and goes beyond their subnets, in place of
    /// what an earlier try may have left.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`]; nothing is changed then.
    pub fn set_up(self, addresses: &[Cidr]) -> Result<()> {
        let mut batch = Batch::new();
        ensure_chains(&mut batch);
        for rule in self.rules()? {
            batch.delete(NfListObject::Rule(rule));
        }
        for address in addresses {
            batch.add(NfListObject::Rule(self.rule(*address)));
        }
        apply(batch, "adding masquerade rules")
    }

    /// Removes the rules, and those that the Go plugins made with iptables.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`] when one of them remains.
    pub fn tear_down(self) -> Result<()> {
        if available() {
            delete(self.rules()?)?;
        }
        iptables::tear_down(self.network, &self.attachment.container_id)
    }

    /// Removes the rules of all attachments of a network but the valid ones.
    ///
    /// # Errors
    /// [`crate::spec::Code::FIREWALL`] when one of them remains.
    pub fn collect(network: &NetworkName, valid: &[Attachment]) -> Result<()> {
        if available() {
            let of_network = format!("{}-", hash(network, 16));
            let valid: Vec<_> =
                valid.iter().map(|attachment| Masquerade { network, attachment }.mark()).collect();
            let mut stale = rules("inet", TABLE, CHAIN)?;
            stale.retain(|rule| {
                let comment = rule.comment.as_deref().unwrap_or_default();
                comment.starts_with(&of_network) && !valid.iter().any(|mark| comment.starts_with(mark))
            });
            delete(stale)?;
        }
        iptables::collect(network, valid)
    }

    /// What the comments of its rules begin with.
    fn mark(self) -> String {
        let Attachment { container_id, ifname } = self.attachment;
        format!("{}-{}", hash(self.network, 16), hash(&format!("{ifname}:{container_id}"), 16))
    }

    fn comment(self) -> String {
        let Attachment { container_id, ifname } = self.attachment;
        let mut comment = format!("{}, net: {}, if: {ifname}, id: {container_id}", self.mark(), self.network);
        // An interface name may have quotes in it, and characters longer than a byte.
        comment.retain(|c| c != '"');
        let end = comment
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(|end| *end <= COMMENT_MAX)
            .last();
        comment.truncate(end.unwrap_or(0));
        comment
    }

    fn rules(self) -> Result<Vec<Rule<'static>>> {
        let mark = self.mark();
        let mut found = rules("inet", TABLE, CHAIN)?;
        found.retain(|rule| rule.comment.as_deref().is_some_and(|comment| comment.starts_with(&mark)));
        Ok(found)
    }

    fn rule(self, address: Cidr) -> Rule<'static> {
        let protocol = if address.is_ipv4() { "ip" } else { "ip6" };
        let source = Expression::String(address.ip().to_string().into());
        rule(
            CHAIN,
            vec![
                field_match(protocol, "saddr", Operator::EQ, source),
                field_match(protocol, "daddr", Operator::NEQ, prefix(address)),
                Statement::Masquerade(None),
            ],
            Some(self.comment()),
        )
    }
}

fn delete(rules: Vec<Rule<'static>>) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    rules.into_iter().for_each(|rule| batch.delete(NfListObject::Rule(rule)));
    apply(batch, "removing masquerade rules")
}

/// Table and chains, and the way into them: multicast is never masqueraded.
fn ensure_chains(batch: &mut Batch<'static>) {
    let chain = |name: &'static str| Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        ..Chain::default()
    };
    let postrouting = Chain {
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(100),
        ..chain(POSTROUTING)
    };
    batch.add(NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None }));
    batch.add(NfListObject::Chain(chain(CHAIN)));
    batch.add(NfListObject::Chain(postrouting.clone()));
    batch.add_cmd(NfCmd::Flush(FlushObject::Chain(postrouting)));
    for (protocol, multicast) in [("ip", "224.0.0.0"), ("ip6", "ff00::")] {
        let len = if protocol == "ip" { 4 } else { 8 };
        let multicast = Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(Expression::String(multicast.into())),
            len,
        }));
        let expr = vec![field_match(protocol, "daddr", Operator::EQ, multicast), Statement::Return(None)];
        batch.add(NfListObject::Rule(rule(POSTROUTING, expr, None)));
    }
    let goto = Statement::Goto(JumpTarget { target: CHAIN.into() });
    batch.add(NfListObject::Rule(rule(POSTROUTING, vec![goto], None)));
}

fn rule(chain: &'static str, expr: Vec<Statement<'static>>, comment: Option<String>) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        comment: comment.map(Into::into),
        ..Rule::default()
    }
}

fn field_match(
    protocol: &'static str,
    field: &'static str,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    let left = Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)));
    Statement::Match(Match { left, right, op })
}

fn prefix(address: Cidr) -> Expression<'static> {
    let network = Expression::String(address.network().to_string().into());
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(network),
        len: address.prefix().into(),
    }))
}

/// The first hexadecimal digits of the SHA-512 of a text, by which the Go plugins name things.
pub(super) fn hash(text: &str, digits: usize) -> String {
    let mut hex: String = Sha512::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
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
    fn a_comment_fits_into_the_kernel() {
        let (network, attachment) = ("n".repeat(200).parse().unwrap(), attachment(&"c".repeat(64)));
        let comment = Masquerade { network: &network, attachment: &attachment }.comment();
        assert_eq!(comment.len(), COMMENT_MAX);
    }
}

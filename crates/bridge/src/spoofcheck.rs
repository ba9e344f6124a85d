//! `macspoofchk`: a container may only send with its own MAC address.
//!
//! Table, chains and comments are those of the Go plugin: `bridge nat`, where for each
//! attachment `PREROUTING` jumps to `cni-br-iface-<id>-<ifname>`, and that to a chain of the
//! same name with `-mac` behind it, which drops what does not come from the right address.

use std::borrow::Cow;

use cni_core::context::Context;
use cni_core::firewall::nftables::batch::Batch;
use cni_core::firewall::nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField};
use cni_core::firewall::nftables::schema::{Chain, FlushObject, NfCmd, NfListObject, Rule, Table};
use cni_core::firewall::nftables::stmt::{JumpTarget, Match, Operator, Statement};
use cni_core::firewall::nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use cni_core::firewall::{apply, available, rules};
use cni_core::netlink::{Link, Netlink};
use cni_core::spec::{Attachment, Result};

const TABLE: &str = "nat";
const PREROUTING: &str = "PREROUTING";
const COMMENT: &str = "macspoofchk-";

/// Drops what the port sends with another MAC address than the container's.
pub(crate) fn set_up(context: &Context<'_>, port: &Link, link: &Link) -> Result<()> {
    let attachment = context.attachment.clone();
    let Some(mac) = link.mac else { return Ok(()) };
    let id = id(&attachment);
    let [iface, mac_chain] = chains(&id);
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(Table { family: NfFamily::Bridge, name: TABLE.into(), handle: None }));
    batch.add(NfListObject::Chain(Chain {
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Prerouting),
        prio: Some(-300),
        policy: Some(NfChainPolicy::Accept),
        ..chain(PREROUTING.to_owned())
    }));
    for name in [&iface, &mac_chain] {
        // What an earlier try may have left goes first.
        batch.add(NfListObject::Chain(chain(name.clone())));
        batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(name.clone()))));
    }
    let meta = Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Iifname }));
    let jump = |target: &str| Statement::Jump(JumpTarget { target: target.to_owned().into() });
    let source = PayloadField { protocol: "ether".into(), field: "saddr".into() };
    let source = Expression::Named(NamedExpression::Payload(Payload::PayloadField(source)));
    let comment = format!("{COMMENT}{id}");
    let mut add = |chain: &str, expr: Vec<Statement<'static>>| {
        batch.add(NfListObject::Rule(rule(chain.to_owned(), expr, &comment)));
    };
    add(PREROUTING, vec![equals(meta, port.name.clone()), jump(&iface)]);
    add(&iface, vec![jump(&mac_chain)]);
    add(&mac_chain, vec![equals(source, mac.to_string()), Statement::Return(None)]);
    add(&mac_chain, vec![Statement::Drop(None)]);
    context.undo.push("macspoofchk", move || tear_down(&attachment));
    apply(batch, "adding the rules of macspoofchk")
}

/// Removes the rules of an attachment.
pub(crate) fn tear_down(attachment: &Attachment) -> Result<()> {
    let id = id(attachment);
    remove(|comment, _| comment == id)
}

/// Removes the rules of ports that are gone, unless their attachment is valid. Rules say
/// nothing of their network: those of ports that exist may be another network's.
pub(crate) fn collect(valid: &[Attachment]) -> Result<()> {
    let host = Netlink::open()?;
    let valid: Vec<String> = valid.iter().map(id).collect();
    let ports: Vec<String> = host.links()?.into_iter().map(|link| link.name).collect();
    remove(|id, port| !valid.iter().any(|v| v == id) && !ports.iter().any(|p| Some(p.as_str()) == port))
}

/// Removes the rules whose id and port are stale, and their chains.
fn remove(stale: impl Fn(&str, Option<&str>) -> bool) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut batch = Batch::new();
    let mut removed: Vec<String> = Vec::new();
    for rule in rules("bridge", TABLE, PREROUTING)? {
        let id = rule.comment.as_deref().and_then(|comment| comment.strip_prefix(COMMENT)).map(str::to_owned);
        let Some(id) = id.filter(|id| stale(id, port_of(&rule))) else { continue };
        batch.delete(NfListObject::Rule(rule));
        if !removed.contains(&id) {
            removed.push(id);
        }
    }
    if removed.is_empty() {
        return Ok(());
    }
    for name in removed.iter().flat_map(|id| chains(id)) {
        // Added and flushed first: a chain that is missing, or not empty, can't be deleted.
        batch.add(NfListObject::Chain(chain(name.clone())));
        batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(name.clone()))));
    }
    for name in removed.iter().flat_map(|id| chains(id)) {
        batch.delete(NfListObject::Chain(chain(name)));
    }
    apply(batch, "removing the rules of macspoofchk")
}

/// The port that a rule of `PREROUTING` is about.
fn port_of<'a>(rule: &'a Rule<'_>) -> Option<&'a str> {
    rule.expr.iter().find_map(|statement| match statement {
        Statement::Match(Match { right: Expression::String(port), .. }) => Some(port.as_ref()),
        _ => None,
    })
}

fn id(attachment: &Attachment) -> String {
    format!("{}-{}", attachment.container_id, attachment.ifname)
}

fn chains(id: &str) -> [String; 2] {
    [format!("cni-br-iface-{id}"), format!("cni-br-iface-{id}-mac")]
}

fn chain(name: String) -> Chain<'static> {
    Chain { family: NfFamily::Bridge, table: TABLE.into(), name: name.into(), ..Chain::default() }
}

fn rule(chain: String, expr: Vec<Statement<'static>>, comment: &str) -> Rule<'static> {
    Rule {
        family: NfFamily::Bridge,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        comment: Some(Cow::Owned(comment.to_owned())),
        ..Rule::default()
    }
}

fn equals(left: Expression<'static>, right: String) -> Statement<'static> {
    Statement::Match(Match { left, right: Expression::String(right.into()), op: Operator::EQ })
}

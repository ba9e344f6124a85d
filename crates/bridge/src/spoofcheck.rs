//! `macspoofchk`: a container can only send with its own MAC address.
//!
//! Table, chains and comments are those of the Go plugin: in `bridge nat`, `PREROUTING` jumps for each
//! attachment to `cni-br-iface-<id>-<ifname>`, which jumps to a chain of that name with `-mac`
//! appended, which drops what does not come from the right address.

use cni_core::context::Context;
use cni_core::firewall;
use cni_core::netfilter::{
    Chain, ChainKind, Comparison, Expression, Failure, Family, Hook, Netfilter, Rule, Table, Transaction,
    Verdict,
};
use cni_core::netlink::{Link, Netlink};
use cni_core::spec::{Attachment, Error, Mac, Result};

const TABLE: Table<'_> = Table { family: Family::Bridge, name: "nat" };
const COMMENT: &str = "macspoofchk-";

/// The longest ID that is used as it is: the kernel allows chains 255 bytes, nft(8) comments 128.
const ID_MAX: usize = 100;

/// Drops what the port sends with another MAC address than the container's.
pub(crate) fn set_up(context: &Context<'_>, port: &Link, link: &Link) -> Result<()> {
    let attachment = context.attachment.clone();
    let Some(mac) = link.mac else { return Ok(()) };
    let ids = ids(&attachment);
    context.undo.push("macspoofchk", move || tear_down(&attachment));
    firewall::add("macspoofchk", |netfilter| add(netfilter, &ids, &port.name, mac))
}

fn add(netfilter: &Netfilter, ids: &[String], port: &str, mac: Mac) -> Result<(), Failure> {
    let mut transaction = with_base(netfilter)?;
    // What an earlier ADD of this attachment left.
    for id in ids {
        delete(netfilter, &mut transaction, id)?;
    }
    let id = &ids[0];
    let comment = format!("{COMMENT}{id}");
    let [iface, mac_chain] = chains(id);
    transaction.add_chain(&iface);
    transaction.add_chain(&mac_chain);
    let jump = |target: &Chain<'_>| Expression::Verdict(Verdict::Jump(target.name.to_string()));
    let mut add = |chain: &Chain<'_>, mut conditions: Vec<Expression>, verdict: Expression| {
        conditions.push(verdict);
        transaction.add_rule(chain, &Rule::new(conditions).comment(&*comment));
    };
    add(&prerouting(), Expression::input_interface(port), jump(&iface));
    add(&iface, vec![], jump(&mac_chain));
    add(&mac_chain, Expression::source_mac(mac), Expression::Verdict(Verdict::Return));
    add(&mac_chain, vec![], Expression::Verdict(Verdict::Drop));
    netfilter.commit(&transaction, "adding the rules of macspoofchk")
}

/// Requires, for CHECK, the rules of an attachment.
pub(crate) fn check(attachment: &Attachment, port: &Link, link: &Link) -> Result<()> {
    let Some(mac) = link.mac else { return Ok(()) };
    let found = firewall::change(|netfilter| {
        for id in ids(attachment) {
            if is_complete(netfilter, &id, &port.name, mac)? {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    if found == Some(true) {
        return Ok(());
    }
    Err(Error::check(format!("macspoofchk: port {} may send with other MAC addresses than {mac}", port.name)))
}

fn is_complete(netfilter: &Netfilter, id: &str, port: &str, mac: Mac) -> Result<bool, Failure> {
    let [iface, mac_chain] = chains(id);
    let (from_port, from_mac) = (Expression::input_interface(port), Expression::source_mac(mac));
    let entry = rules_of(netfilter, id)?;
    let has_entry = entry.iter().any(|rule| {
        rule.expressions.starts_with(&from_port) && rule.jump_target() == Some(iface.name.as_ref())
    });
    let allowed = netfilter.rules(&mac_chain, |_| true)?;
    Ok(has_entry && allowed.iter().any(|rule| rule.expressions.starts_with(&from_mac)))
}

/// Requires, for STATUS, that rules could be added.
pub(crate) fn require() -> Result<()> {
    firewall::require("macspoofchk", with_base)
}

/// Removes the rules of an attachment.
pub(crate) fn tear_down(attachment: &Attachment) -> Result<()> {
    let ids = ids(attachment);
    remove(|id, _| ids.iter().any(|own| own == id), &ids)
}

/// Removes the rules of ports that are gone, unless their attachment is valid. Rules don't name
/// their network: those of ports that exist may be another network's.
///
/// # Errors
/// [`cni_core::spec::Code::FIREWALL`] when one of them remains.
pub fn collect(valid: &[Attachment]) -> Result<()> {
    let is_stale = staleness(valid)?;
    remove(is_stale, &[])
}

/// The IDs, `<container id>-<ifname>`, whose rules [`collect`] would remove.
///
/// # Errors
/// [`cni_core::spec::Code::FIREWALL`].
pub fn stale(valid: &[Attachment]) -> Result<Vec<String>> {
    let is_stale = staleness(valid)?;
    Ok(firewall::change(|netfilter| stale_ids(netfilter, &is_stale))?.unwrap_or_default())
}

/// Whether an ID with its port is stale.
fn staleness(valid: &[Attachment]) -> Result<impl Fn(&str, Option<&str>) -> bool + use<>> {
    let valid: Vec<String> = valid.iter().flat_map(ids).collect();
    let ports: Vec<String> = Netlink::open()?.links()?.into_iter().map(|link| link.name).collect();
    Ok(move |id: &str, port: Option<&str>| {
        !valid.iter().any(|valid| valid == id)
            && !ports.iter().any(|existing| Some(existing.as_str()) == port)
    })
}

/// Removes the rules whose ID and port are stale, and their chains; those of `ids` also where no rule
/// leads to them.
fn remove(is_stale: impl Fn(&str, Option<&str>) -> bool, ids: &[String]) -> Result<()> {
    firewall::change(|netfilter| {
        let mut stale = [ids, &stale_ids(netfilter, &is_stale)?].concat();
        stale.sort_unstable();
        stale.dedup();
        let mut transaction = Transaction::new();
        for id in stale {
            delete(netfilter, &mut transaction, &id)?;
        }
        netfilter.commit(&transaction, "removing the rules of macspoofchk")
    })
    .map(|_| ())
}

/// The IDs of the rules that are stale with their port.
fn stale_ids(
    netfilter: &Netfilter,
    is_stale: &impl Fn(&str, Option<&str>) -> bool,
) -> Result<Vec<String>, Failure> {
    let mut stale = Vec::new();
    for rule in netfilter.rules(&prerouting(), |comment| comment.starts_with(COMMENT))? {
        let id = rule.comment.as_deref().and_then(|comment| comment.strip_prefix(COMMENT));
        stale.extend(id.filter(|id| is_stale(id, port_of(&rule))).map(str::to_owned));
    }
    Ok(stale)
}

/// Deletes what there is of an ID: the rules that lead to its chains, then the chains.
fn delete(netfilter: &Netfilter, transaction: &mut Transaction, id: &str) -> Result<(), Failure> {
    for rule in rules_of(netfilter, id)? {
        transaction.delete_rule(&prerouting(), &rule);
    }
    for chain in chains(id) {
        if netfilter.has_chain(&chain)? {
            transaction.delete_chain(&chain);
        }
    }
    Ok(())
}

fn rules_of(netfilter: &Netfilter, id: &str) -> Result<Vec<Rule>, Failure> {
    netfilter.rules(&prerouting(), |comment| comment.strip_prefix(COMMENT) == Some(id))
}

/// A transaction that makes what is missing of the table and the chain where packets enter it.
fn with_base(netfilter: &Netfilter) -> Result<Transaction, Failure> {
    let mut transaction = Transaction::new();
    if !netfilter.has_chain(&prerouting())? {
        transaction.add_table(TABLE);
        transaction.add_chain(&prerouting());
    }
    Ok(transaction)
}

/// The port that a rule of `PREROUTING` is about.
fn port_of(rule: &Rule) -> Option<&str> {
    match rule.expressions.as_slice() {
        [Expression::InputInterface, Expression::Compare(Comparison::Eq, name), ..] => {
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            std::str::from_utf8(&name[..end]).ok()
        }
        _ => None,
    }
}

/// The IDs under which an attachment may have rules, first the one that is used for new ones. It is that
/// of the Go plugin, except where nft(8) could not load a ruleset with it: an interface name may have
/// characters that end a name there.
fn ids(attachment: &Attachment) -> Vec<String> {
    let Attachment { container_id, ifname } = attachment;
    let id = format!("{container_id}-{ifname}");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.chars().all(is_plain) && id.len() <= ID_MAX {
        return vec![id];
    }
    let hashed = firewall::hash(&format!("{ifname}:{container_id}"), 32);
    let fits = id.len() + "cni-br-iface--mac".len() < 255;
    std::iter::once(hashed).chain(Some(id).filter(|_| fits)).collect()
}

fn prerouting() -> Chain<'static> {
    TABLE.chain("PREROUTING").based(ChainKind::Filter, Hook::Prerouting, -300)
}

fn chains(id: &str) -> [Chain<'static>; 2] {
    [format!("cni-br-iface-{id}"), format!("cni-br-iface-{id}-mac")].map(|name| TABLE.chain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(id: &str, ifname: &str) -> Vec<String> {
        ids(&Attachment { container_id: id.parse().unwrap(), ifname: ifname.parse().unwrap() })
    }

    #[test]
    fn names_are_those_of_the_go_plugin_unless_nft_could_not_load_them() {
        assert_eq!(ids_of("c1", "eth0"), ["c1-eth0"]);
        let odd = ids_of("c1", "a;{}\"b");
        assert_eq!((odd[0].len(), odd[1].as_str()), (32, "c1-a;{}\"b"));
        assert!(odd[0].chars().all(|c| c.is_ascii_hexdigit()));
        let long = "c".repeat(250);
        assert_eq!(ids_of(&long, "eth0").len(), 1);
        assert_ne!(ids_of(&long, "eth0"), ids_of(&long, "eth1"));
    }
}

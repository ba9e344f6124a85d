//! Looking up what the kernel has.

use nix::errno::Errno;
use nix::libc;

use super::expression::{Expression, Verdict, attribute, bytes};
use super::uapi::*;
use super::{Chain, Element, Family, Netfilter, Result, Rule, Set, Table, message};
use crate::netlink::connection::{Connection, Refusal};
use crate::netlink::message::{Answer, Message, attributes, be32_at, text};

/// The length of `struct nfgenmsg`, which precedes the attributes.
const HEADER: usize = 4;

/// The generation of the ruleset, which each transaction changes.
pub(super) fn generation(connection: &Connection) -> Result<u32, Refusal> {
    let request = message(NFT_MSG_GETGEN, 0, Family::Inet);
    connection.get(&request, |answer| {
        let attrs = body(answer, NFT_MSG_NEWGEN)?;
        be32_at(attribute(attrs, NFTA_GEN_ID)?, 0)
    })
}

/// The attributes of an answer of a type.
pub(super) fn body<'a>(answer: &Answer<'a>, kind: u16) -> Option<&'a [u8]> {
    (answer.kind == NFNL_SUBSYS_NFTABLES << 8 | kind).then(|| answer.body.get(HEADER..)).flatten()
}

impl Netfilter {
    /// Whether a table exists.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn has_table(&self, table: Table<'_>) -> Result<bool> {
        let mut request = message(NFT_MSG_GETTABLE, 0, table.family);
        request.attr_str(NFTA_TABLE_NAME, table.name);
        self.exists(&request, || format!("looking up table {table}"))
    }

    /// Whether a chain exists.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn has_chain(&self, chain: &Chain<'_>) -> Result<bool> {
        let mut request = message(NFT_MSG_GETCHAIN, 0, chain.table.family);
        request.attr_str(NFTA_CHAIN_TABLE, chain.table.name).attr_str(NFTA_CHAIN_NAME, &chain.name);
        self.exists(&request, || format!("looking up chain {chain}"))
    }

    fn exists(&self, request: &Message, operation: impl FnOnce() -> String) -> Result<bool> {
        match self.connection.get(request, |_| Some(())) {
            Ok(()) => Ok(true),
            Err(Refusal { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(refusal) => Err(refusal.during(operation())),
        }
    }

    /// The rules of a chain whose comment is as required, in order; none where the chain is missing.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn rules(&self, chain: &Chain<'_>, commented: impl Fn(&str) -> bool) -> Result<Vec<Rule>> {
        let mut request = message(NFT_MSG_GETRULE, libc::NLM_F_DUMP, chain.table.family);
        request.attr_str(NFTA_RULE_TABLE, chain.table.name).attr_str(NFTA_RULE_CHAIN, &chain.name);
        let read = |answer: &Answer<'_>| read_rule(body(answer, NFT_MSG_NEWRULE)?, chain, &commented);
        let listed = self.connection.list(&request, read);
        none_if_missing(listed, || format!("listing the rules of chain {chain}"))
    }

    /// The elements of a set or map; none where it is missing.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn elements(&self, set: &Set<'_>) -> Result<Vec<Element>> {
        let mut request = message(NFT_MSG_GETSETELEM, libc::NLM_F_DUMP, set.table.family);
        request.attr_str(NFTA_SET_ELEM_LIST_TABLE, set.table.name).attr_str(NFTA_SET_ELEM_LIST_SET, set.name);
        let listed = self.connection.list(&request, |answer| {
            let list = attribute(body(answer, NFT_MSG_NEWSETELEM)?, NFTA_SET_ELEM_LIST_ELEMENTS)?;
            Some(attributes(list).filter_map(|(_, element)| read_element(element)).collect::<Vec<_>>())
        });
        let operation = || format!("listing the elements of set {} {}", set.table, set.name);
        none_if_missing(listed, operation).map(|elements| elements.concat())
    }
}

fn none_if_missing<T>(listed: Result<Vec<T>, Refusal>, operation: impl FnOnce() -> String) -> Result<Vec<T>> {
    match listed {
        Err(Refusal { errno: Errno::ENOENT, .. }) => Ok(Vec::new()),
        listed => listed.map_err(|refusal| refusal.during(operation())),
    }
}

/// A rule of a chain. Old kernels list the rules of all chains.
pub(super) fn read_rule(attrs: &[u8], chain: &Chain<'_>, commented: impl Fn(&str) -> bool) -> Option<Rule> {
    let is = |kind, name: &str| attribute(attrs, kind).is_some_and(|value| text(value) == name);
    if !is(NFTA_RULE_TABLE, chain.table.name) || !is(NFTA_RULE_CHAIN, &chain.name) {
        return None;
    }
    let comment = attribute(attrs, NFTA_RULE_USERDATA).and_then(read_comment);
    if !commented(comment.unwrap_or_default()) {
        return None;
    }
    let handle = attribute(attrs, NFTA_RULE_HANDLE)?.try_into().ok()?;
    Some(Rule {
        expressions: attribute(attrs, NFTA_RULE_EXPRESSIONS).map(Expression::read_all).unwrap_or_default(),
        comment: comment.map(str::to_owned),
        handle: u64::from_be_bytes(handle),
    })
}

pub(super) fn read_element(element: &[u8]) -> Option<Element> {
    Some(Element {
        key: bytes(element, NFTA_SET_ELEM_KEY)?,
        verdict: attribute(element, NFTA_SET_ELEM_DATA).and_then(Verdict::read),
        comment: attribute(element, NFTA_SET_ELEM_USERDATA).and_then(read_comment).map(str::to_owned),
    })
}

/// The comment in user data, which is a list of type, length and value.
fn read_comment(mut data: &[u8]) -> Option<&str> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == NFTNL_UDATA_COMMENT {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

//! Changing what the kernel has.

use nix::errno::Errno;
use nix::libc;

use super::uapi::*;
use super::{Chain, Element, Netfilter, Result, Rule, Set, Table, closing, message};
use crate::netlink::message::{Message, NESTED};

/// Changes that the kernel applies atomically.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    changes: Vec<Message>,
    /// The transaction is refused if another one came first, since the ruleset was of this generation.
    generation: Option<u32>,
}

impl Transaction {
    /// A transaction without changes.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// One that is refused with `ERESTART` if the ruleset has changed since a connection was opened:
    /// for changes that depend on what was looked up.
    pub fn unless_changed(netfilter: &Netfilter) -> Transaction {
        Transaction { generation: Some(netfilter.generation), ..Transaction::default() }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds a table. It may exist.
    pub fn add_table(&mut self, table: Table<'_>) {
        let mut change = message(NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, table.family);
        change.attr_str(NFTA_TABLE_NAME, table.name);
        self.changes.push(change);
    }

    /// Adds a chain. It may exist, with the same base.
    pub fn add_chain(&mut self, chain: &Chain<'_>) {
        let mut change = chain_message(NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, chain);
        if let Some(base) = chain.base {
            change.nest(NFTA_CHAIN_HOOK | NESTED, |hook| {
                hook.attr_be32(NFTA_HOOK_HOOKNUM, base.hook.number());
                hook.attr(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
            });
            change.attr(NFTA_CHAIN_POLICY, &NF_ACCEPT.to_be_bytes());
            change.attr_str(NFTA_CHAIN_TYPE, base.kind.name());
        }
        self.changes.push(change);
    }

    /// Deletes a chain with its rules. No rule of another chain may jump to it any more.
    pub fn delete_chain(&mut self, chain: &Chain<'_>) {
        self.changes.push(chain_message(NFT_MSG_DELCHAIN, 0, chain));
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &Chain<'_>) {
        self.changes.push(rule_message(NFT_MSG_DELRULE, 0, chain));
    }

    /// Adds a rule behind the others of a chain.
    pub fn add_rule(&mut self, chain: &Chain<'_>, rule: &Rule) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let mut change = rule_message(NFT_MSG_NEWRULE, flags, chain);
        change.nest(NFTA_RULE_EXPRESSIONS | NESTED, |list| {
            rule.expressions.iter().for_each(|expression| expression.append(list));
        });
        append_comment(&mut change, NFTA_RULE_USERDATA, rule.comment.as_deref());
        self.changes.push(change);
    }

    /// Deletes a rule that was looked up.
    pub fn delete_rule(&mut self, chain: &Chain<'_>, rule: &Rule) {
        let mut change = rule_message(NFT_MSG_DELRULE, 0, chain);
        change.attr(NFTA_RULE_HANDLE, &rule.handle.to_be_bytes());
        self.changes.push(change);
    }

    /// Adds a set or map. It may exist, with the same types.
    pub fn add_set(&mut self, set: &Set<'_>) {
        let (key_type, key_len) = set.key.type_and_len();
        let mut change = set_message(NFT_MSG_NEWSET, libc::NLM_F_CREATE, set);
        change.attr_be32(NFTA_SET_FLAGS, if set.map.is_some() { NFT_SET_MAP } else { 0 });
        change.attr_be32(NFTA_SET_KEY_TYPE, key_type).attr_be32(NFTA_SET_KEY_LEN, key_len);
        if set.map.is_some() {
            change.attr_be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT).attr_be32(NFTA_SET_DATA_LEN, 0);
        }
        // The kernel requires a number that is unique in the transaction.
        change.attr_be32(NFTA_SET_ID, self.changes.len() as u32 + 1);
        self.changes.push(change);
    }

    /// Deletes a set or map that no rule uses any more.
    pub fn delete_set(&mut self, set: &Set<'_>) {
        self.changes.push(set_message(NFT_MSG_DELSET, 0, set));
    }

    /// Adds elements to a set or map. Those that it has already stay as they are.
    pub fn add_elements(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.change_elements(NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set, elements);
    }

    /// Deletes elements of a set or map, by their keys.
    pub fn delete_elements(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.change_elements(NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn change_elements(&mut self, kind: u16, flags: i32, set: &Set<'_>, elements: &[Element]) {
        let mut change = message(kind, flags, set.table.family);
        change.attr_str(NFTA_SET_ELEM_LIST_TABLE, set.table.name).attr_str(NFTA_SET_ELEM_LIST_SET, set.name);
        change.nest(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, |list| {
            for element in elements {
                list.nest(NFTA_LIST_ELEM | NESTED, |message| append_element(message, element));
            }
        });
        self.changes.push(change);
    }
}

fn chain_message(kind: u16, flags: i32, chain: &Chain<'_>) -> Message {
    let mut message = message(kind, flags, chain.table.family);
    message.attr_str(NFTA_CHAIN_TABLE, chain.table.name).attr_str(NFTA_CHAIN_NAME, &chain.name);
    message
}

fn rule_message(kind: u16, flags: i32, chain: &Chain<'_>) -> Message {
    let mut message = message(kind, flags, chain.table.family);
    message.attr_str(NFTA_RULE_TABLE, chain.table.name).attr_str(NFTA_RULE_CHAIN, &chain.name);
    message
}

fn set_message(kind: u16, flags: i32, set: &Set<'_>) -> Message {
    let mut message = message(kind, flags, set.table.family);
    message.attr_str(NFTA_SET_TABLE, set.table.name).attr_str(NFTA_SET_NAME, set.name);
    message
}

fn append_element(message: &mut Message, element: &Element) {
    message.nest(NFTA_SET_ELEM_KEY | NESTED, |key| {
        key.attr(NFTA_DATA_VALUE, &element.key);
    });
    if let Some(verdict) = &element.verdict {
        message.nest(NFTA_SET_ELEM_DATA | NESTED, |data| verdict.append(data));
    }
    append_comment(message, NFTA_SET_ELEM_USERDATA, element.comment.as_deref());
}

/// Appends a comment as user data: type, length and value, terminated by a zero.
pub(super) fn append_comment(message: &mut Message, kind: u16, comment: Option<&str>) {
    let Some(comment) = comment else { return };
    let mut data = vec![NFTNL_UDATA_COMMENT, 0];
    // The length has one byte.
    data.extend(&comment.as_bytes()[..comment.floor_char_boundary(usize::from(u8::MAX) - 1)]);
    data.push(0);
    data[1] = (data.len() - 2) as u8;
    message.attr(kind, &data);
}

impl Netfilter {
    /// Applies a transaction.
    ///
    /// # Errors
    /// `ENOENT` when a rule or chain to be deleted, or the chain of a new rule, is gone;
    /// `ERESTART` as [`Transaction::unless_changed`] says. Nothing is changed then.
    pub fn commit(&self, transaction: &Transaction, operation: &str) -> Result<()> {
        self.send(transaction, Some(batch(NFNL_MSG_BATCH_END)), operation)
    }

    /// Has the kernel check a transaction, which it would apply, without applying it.
    ///
    /// # Errors
    /// Those of [`Netfilter::commit`].
    pub fn check(&self, transaction: &Transaction, operation: &str) -> Result<()> {
        // What no end follows is undone (`nfnetlink_rcv_batch` in net/netfilter/nfnetlink.c).
        self.send(transaction, None, operation)
    }

    fn send(&self, transaction: &Transaction, end: Option<Message>, operation: &str) -> Result<()> {
        let Some((last, others)) = transaction.changes.split_last() else { return Ok(()) };
        let mut begin = batch(NFNL_MSG_BATCH_BEGIN);
        if let Some(generation) = transaction.generation {
            begin.attr_be32(NFNL_BATCH_GENID, generation);
        }
        let mut last = last.clone();
        last.request_acknowledgement();
        let mut messages = vec![begin];
        messages.extend(others.iter().cloned());
        let acknowledged = messages.len();
        messages.push(last);
        messages.extend(end);
        let sent = self.connection.transact(&messages, acknowledged);
        sent.map_err(|refusal| refusal.during(operation))
    }

    /// Calls a function that looks up and changes the ruleset, again with a new connection where another
    /// process changed it in between.
    ///
    /// # Errors
    /// Those of the function, and of [`Netfilter::open`].
    pub fn retry<T>(mut change: impl FnMut(&Netfilter) -> Result<T>) -> Result<Option<T>> {
        const TRIES: u32 = 10;
        let mut tries = 1;
        loop {
            let Some(netfilter) = Netfilter::open()? else { return Ok(None) };
            match change(&netfilter) {
                Err(failure) if tries < TRIES && is_race(failure.errno) => tries += 1,
                changed => {
                    closing::close(netfilter);
                    return changed.map(Some);
                }
            }
        }
    }
}

/// What the kernel answers where another process changed what was looked up.
fn is_race(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::EINTR | Errno::EBUSY | Errno::ERESTART)
}

/// The begin or end of a transaction, whose header names the subsystem.
fn batch(kind: u16) -> Message {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low])
}

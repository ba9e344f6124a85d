//! The readers of answers, for the fuzz targets alone.

use super::query::{body, read_element, read_rule};
use super::uapi::*;
use super::{Family, Table, expression::attribute};
use crate::netlink::message::{acknowledgement, answers, attributes, text};

/// Reads a datagram as each kind of answer.
pub fn datagram(bytes: &[u8]) {
    for answer in answers(bytes) {
        let Ok(answer) = answer else { return };
        let _ = acknowledgement(&answer);
        if let Some(attrs) = body(&answer, NFT_MSG_NEWRULE) {
            // A rule of another chain is not read any further.
            let name = |kind| attribute(attrs, kind).map(text).unwrap_or_default();
            let table = Table { family: Family::Inet, name: name(NFTA_RULE_TABLE) };
            if let Some(rule) = read_rule(attrs, &table.chain(name(NFTA_RULE_CHAIN)), |_| true) {
                let _ = rule.jump_target();
            }
        }
        let elements =
            body(&answer, NFT_MSG_NEWSETELEM).and_then(|attrs| attribute(attrs, NFTA_SET_ELEM_LIST_ELEMENTS));
        let _ =
            attributes(elements.unwrap_or_default()).filter_map(|(_, element)| read_element(element)).count();
    }
}

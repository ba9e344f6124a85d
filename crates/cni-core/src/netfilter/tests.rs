//! Answers of a kernel that the test plays; see tests/netfilter.rs for those of a real one.

use std::time::Duration;

use nix::libc;
use proptest::prelude::*;

use super::query::{read_element, read_rule};
use super::*;
use crate::netlink::connection::to_test;

/// What opening a connection gives where the kernel refuses the first request with an error.
fn opened(errno: i32) -> Result<bool> {
    let (connection, kernel) = to_test(Duration::from_millis(200));
    let mut body = (-errno).to_ne_bytes().to_vec();
    body.extend([0; 16]);
    let refusal = Message::new(libc::NLMSG_ERROR as u16, 0, &body).finish(1).unwrap();
    kernel.send(&refusal).unwrap();
    Netfilter::on(connection).map(|netfilter| netfilter.is_some())
}

#[test]
fn a_kernel_without_nf_tables_has_no_connection() {
    assert!(!opened(libc::EINVAL).unwrap());
    assert!(!opened(libc::EOPNOTSUPP).unwrap());
    let denied = opened(libc::EPERM).unwrap_err();
    assert_eq!(
        (denied.errno, denied.operation.as_str()),
        (Errno::EPERM, "opening a connection to nf_tables")
    );
    let missing = std::io::Error::from_raw_os_error(libc::EPROTONOSUPPORT);
    assert!(supported(Err(missing.into())).unwrap().is_none());
}

#[test]
fn a_rule_that_does_not_fit_into_a_message_is_an_error() {
    let (connection, kernel) = to_test(Duration::from_millis(200));
    let netfilter = Netfilter { connection, generation: 1 };
    let mut transaction = Transaction::new();
    let table = Table { family: Family::Inet, name: "t" };
    transaction.add_rule(&table.chain("c"), &Rule::new(vec![Expression::Masquerade; 4000]));
    let refused = netfilter.commit(&transaction, "adding a rule").unwrap_err();
    assert_eq!(refused.errno, Errno::EMSGSIZE);
    kernel.set_nonblocking(true).unwrap();
    assert!(kernel.recv(&mut [0]).is_err(), "nothing was sent");
}

#[test]
fn a_comment_is_cut_to_what_its_length_can_tell() {
    let table = Table { family: Family::Inet, name: "t" };
    let mut message = message(NFT_MSG_NEWRULE, 0, Family::Inet);
    message.attr_str(NFTA_RULE_TABLE, "t").attr_str(NFTA_RULE_CHAIN, "c").attr(NFTA_RULE_HANDLE, &[0; 8]);
    transaction::append_comment(&mut message, NFTA_RULE_USERDATA, Some(&"ü".repeat(300)));
    let bytes = message.finish(1).unwrap();
    let rule = read_rule(&bytes[20..], &table.chain("c"), |_| true).unwrap();
    assert_eq!(rule.comment, Some("ü".repeat(127)));
}

proptest! {
    #[test]
    fn any_rule_of_a_kernel_is_read(data in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u16..8) {
        let table = Table { family: Family::Inet, name: "t" };
        let mut message = message(NFT_MSG_NEWRULE, 0, Family::Inet);
        message.attr_str(NFTA_RULE_TABLE, "t").attr_str(NFTA_RULE_CHAIN, "c").attr(NFTA_RULE_HANDLE, &[0; 8]);
        message.attr(kind, &data).attr(NFTA_RULE_EXPRESSIONS, &data).attr(NFTA_RULE_USERDATA, &data);
        let bytes = message.finish(1).unwrap();
        let _ = read_rule(&bytes[20..], &table.chain("c"), |_| true);
        let _ = read_element(&data);
    }

    #[test]
    fn any_expression_is_read(name in 0usize..8, data in proptest::collection::vec(any::<u8>(), 0..100)) {
        let names = ["meta", "payload", "bitwise", "cmp", "lookup", "immediate", "match", "other"];
        let mut list = message(NFT_MSG_NEWRULE, 0, Family::Inet);
        list.nest(NFTA_LIST_ELEM, |element| {
            element.attr_str(NFTA_EXPR_NAME, names[name]).attr(NFTA_EXPR_DATA, &data);
        });
        let bytes = list.finish(1).unwrap();
        prop_assert!(Expression::read_all(&bytes[20..]).len() <= 1);
    }
}

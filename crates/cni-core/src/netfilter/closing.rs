//! When connections are closed.

use std::cell::RefCell;

use super::Netfilter;

thread_local! {
    /// The open connections of the innermost [`close_after`]; `None` outside of any.
    static OPEN: RefCell<Option<Vec<Netfilter>>> = const { RefCell::new(None) };
}

/// Calls a function, and closes the connections over which it changed rules only when it returns.
///
/// Where rules were deleted, the close waits for an RCU grace period that began with the transaction. A
/// function that deletes rules first and then does what waits for such a period too, as deleting a link does,
/// so waits once: when it returns, the close has nothing left to wait for.
pub fn close_after<T>(function: impl FnOnce() -> T) -> T {
    /// Closes them also where the function panics.
    struct Restore(Option<Vec<Netfilter>>);

    impl Drop for Restore {
        fn drop(&mut self) {
            drop(OPEN.replace(self.0.take()));
        }
    }

    let _restore = Restore(OPEN.replace(Some(Vec::new())));
    function()
}

/// Takes a connection that is not used any more, to close it now or when [`close_after`] returns.
pub(super) fn close(netfilter: Netfilter) {
    OPEN.with_borrow_mut(|open| match open {
        Some(open) => open.push(netfilter),
        None => drop(netfilter),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::connection::Connection;

    /// A connection that closes as any other does. The kernel has the protocol in every configuration.
    fn connection() -> Netfilter {
        let connection = Connection::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        Netfilter { connection, generation: 0 }
    }

    fn open() -> Option<usize> {
        OPEN.with_borrow(|open| open.as_ref().map(Vec::len))
    }

    #[test]
    fn connections_stay_open_until_the_function_returns() {
        close(connection());
        assert_eq!(open(), None);
        close_after(|| {
            close(connection());
            close_after(|| {
                close(connection());
                close(connection());
                assert_eq!(open(), Some(2));
            });
            assert_eq!(open(), Some(1));
        });
        assert_eq!(open(), None);
    }
}

//! What happens to a client of either protocol.

/// What happens to a client whose servers send messages of this type.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a, M> {
    /// It begins, or goes on with a lease that it was made with.
    Start,
    /// A message came in. Whether it is for this client is looked at here.
    Received(&'a M),
    /// The deadline of the client has come.
    Timer,
    /// The link carries packets again.
    Carrier,
    /// A user wants the lease renewed now.
    Renew,
    /// Another host uses the leased address (RFC 5227; RFC 4862, section 5.4).
    Conflict,
    /// The address is not needed any more.
    Release,
}

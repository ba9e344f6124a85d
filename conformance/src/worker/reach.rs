//! Whether one namespace reaches an address of another: by a TCP connection, which needs no program
//! and no right beyond what a case has.

use super::sandbox::inside;
use super::stop::Stop;
use crate::case::Reach;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Time for a connection: an address that is still tentative is reached by the second SYN, after 1 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing must come where nothing should: longer only makes a success less likely to be missed.
const IMPATIENCE: Duration = Duration::from_millis(700);

/// A `reach` step.
pub(crate) fn reach(reach: &Reach) -> Result<(), Stop> {
    let text = &reach.address;
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an address"))?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let listener = inside(&reach.to, || TcpListener::bind((any, 0)))?
        .map_err(|error| format!("can't listen in {}: {error}", reach.to))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let patience = if reach.fails { IMPATIENCE } else { PATIENCE };
    let target = SocketAddr::new(address, port);
    let connected = inside(&reach.from, || TcpStream::connect_timeout(&target, patience))?;
    match (connected, reach.fails) {
        (Ok(_), false) | (Err(_), true) => Ok(()),
        (Ok(_), true) => Err(Stop::failed(format!("{} reaches {address} and should not", reach.from))),
        (Err(error), false) => {
            Err(Stop::failed(format!("{} does not reach {address} in {}: {error}", reach.from, reach.to)))
        }
    }
}

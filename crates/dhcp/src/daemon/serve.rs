//! Calls of plugins and tools.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use cni_core::spec::{Code, Error, Result};
use dhcp_client::v4::{Counters, Event};
use dhcp_client::{SECOND, Time, v6};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Daemon;
use super::attachment::Attachment;
use super::log::{Level, log};
use crate::protocol::{self, Answer, Call, Command, Family, GO_CLIENT, Id, Target, VERSION};

/// How long a caller may take to send its call, in milliseconds.
const PATIENCE: u64 = 10 * SECOND;

/// For how many milliseconds IPv6 is waited for beside an IPv4 address.
const DUAL: u64 = 2 * SECOND;

/// After so many milliseconds without a carrier the caller hears of it.
const CARRIER_NOTICE: u64 = SECOND;

/// What a client of the Go daemon prints: "unexpected HTTP response: " and the status (net/rpc, `DialHTTP`).
const TO_GO: &[u8] =
    b"HTTP/1.0 501 this is the DHCP daemon of oxcni: install its dhcp plugin beside it\r\n\r\n";

/// Answers one call.
pub(crate) async fn serve(daemon: Rc<Daemon>, mut stream: UnixStream) {
    // The socket's mode keeps others out; this also holds where it was made by another program.
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 => {}
        Ok(peer) => return log(Level::Warning, "caller-refused", &[("uid", &peer.uid())]),
        Err(_) => return,
    }
    let call = tokio::select! {
        call = receive(&mut stream) => call,
        () = daemon.clock.sleep(PATIENCE) => return,
    };
    let answer = match call {
        Ok(Some(call)) if call.version == VERSION => dispatch(&daemon, call.command, &mut stream).await,
        Ok(Some(call)) => {
            let msg =
                format!("the plugin speaks version {} of the protocol, the daemon {VERSION}", call.version);
            Err(Error::new(Code::IO, msg).details("restart the daemon after an upgrade"))
        }
        Ok(None) => return drop(stream.write_all(TO_GO).await),
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return,
        Err(err) => Err(Error::io("reading the call", err)),
    };
    let answer = answer.unwrap_or_else(|err| Some(err.into()));
    if let Some(answer) = answer {
        let _ = send(&mut stream, &answer).await;
    }
}

/// The call; `None` for a client of the Go daemon.
async fn receive(stream: &mut UnixStream) -> io::Result<Option<Call>> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    if prefix == GO_CLIENT {
        return Ok(None);
    }
    let length = protocol::length(prefix)?;
    let mut text = Vec::new();
    // Grows with what arrives: a length alone takes no memory.
    (&mut *stream).take(length as u64).read_to_end(&mut text).await?;
    if text.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&text)?))
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&protocol::encode(answer)?).await
}

/// Does what is wanted; no answer where the caller is gone.
async fn dispatch(daemon: &Rc<Daemon>, command: Command, stream: &mut UnixStream) -> Result<Option<Answer>> {
    match command {
        Command::Add(target) => add(daemon, target, stream).await,
        Command::Del(id) => {
            if let Some(attachment) = daemon.attachment(&id) {
                attachment.release().await;
            }
            Ok(Some(Answer::Done))
        }
        Command::Check { target, address, ipv6 } => check(daemon, target, address, ipv6).map(Some),
        Command::Status => Ok(Some(Answer::Done)),
        Command::Gc { network, valid } => {
            let stale: Vec<Rc<Attachment>> = daemon
                .all()
                .into_iter()
                .filter(|it| it.target.id.network == network && !valid.contains(&it.target.id.attachment))
                .collect();
            for attachment in stale {
                attachment.release().await;
            }
            Ok(Some(Answer::Done))
        }
        Command::Leases => Ok(Some(Answer::Leases(daemon.all().iter().map(|it| it.report()).collect()))),
        Command::Renew(id) => renew(daemon, &id).map(Some),
    }
}

fn renew(daemon: &Rc<Daemon>, id: &Id) -> Result<Answer> {
    let attachment = daemon
        .attachment(id)
        .ok_or_else(|| Error::new(Code::UNKNOWN_CONTAINER, format!("there is no lease of {}", id.text())))?;
    attachment.step(Event::Renew);
    attachment.step_ipv6(v6::Event::Renew);
    Ok(Answer::Lease(Box::new(attachment.report())))
}

fn check(
    daemon: &Rc<Daemon>,
    target: Target,
    address: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
) -> Result<Answer> {
    if let Some(attachment) = daemon.attachment(&target.id) {
        return Ok(Answer::Lease(Box::new(attachment.report())));
    }
    // Another daemon had it, or this one lost it: INIT-REBOOT finds out whether it is still ours.
    if address.is_some() || ipv6.is_some() {
        daemon.start(Attachment::adopt(daemon, target, address, ipv6)?);
    }
    Ok(Answer::Done)
}

async fn add(daemon: &Rc<Daemon>, target: Target, stream: &mut UnixStream) -> Result<Option<Answer>> {
    let begun = daemon.clock.now();
    let attachment = match daemon.attachment(&target.id) {
        // The same ADD again, as a runtime does after it lost the answer.
        Some(earlier) if earlier.has_addresses() && earlier.is_of(&target) => earlier,
        earlier => {
            if let Some(earlier) = earlier {
                earlier.release().await;
            }
            let attachment = Attachment::obtain(daemon, target)?;
            daemon.start(attachment.clone());
            attachment
        }
    };
    attachment.await_ipv6(true);
    let got = wait(daemon, &attachment, begun, stream).await;
    attachment.await_ipv6(false);
    match got {
        Ok(true) => {
            let answer = Answer::Lease(Box::new(attachment.report()));
            if send(stream, &answer).await.is_err() {
                attachment.release().await;
            }
            Ok(None)
        }
        Ok(false) => {
            log(Level::Info, "caller-gone", &[("attachment", &attachment.target.id.text())]);
            attachment.release().await;
            Ok(None)
        }
        Err(err) => {
            attachment.release().await;
            Err(err)
        }
    }
}

/// Waits for a lease; false where the caller went away.
async fn wait(
    daemon: &Rc<Daemon>,
    attachment: &Rc<Attachment>,
    begun: Time,
    stream: &mut UnixStream,
) -> Result<bool> {
    let clock = &daemon.clock;
    let limit = begun.after(daemon.flags.resend_timeout);
    let family = attachment.target.settings.family;
    let dual = begun.after(DUAL);
    let mut notice = Some(begun.after(CARRIER_NOTICE));
    let remaining = |now: Time| limit.since(now);
    if !attachment.has_addresses() {
        let waiting = Answer::Waiting { milliseconds: remaining(clock.now()), text: None };
        if send(stream, &waiting).await.is_err() {
            return Ok(false);
        }
    }
    loop {
        if let Some(gone) = attachment.ended() {
            return Err(Error::new(
                Code::TRY_AGAIN,
                format!("no lease for {}: {gone}", attachment.place.ifname),
            ));
        }
        // For both families the IPv4 address is enough, and what comes of IPv6 soon is reported too.
        let late = Some(dual).filter(|_| attachment.has_addresses());
        if late.is_some() && (attachment.has_ipv6() || !family.has_ipv6() || clock.now() >= dual) {
            return Ok(true);
        }
        let mut byte = [0; 1];
        tokio::select! {
            () = attachment.news() => {}
            // A caller sends nothing more: what can be read is its end.
            _ = stream.read(&mut byte) => return Ok(false),
            () = clock.until(notice) => {
                notice = None;
                if attachment.progress().1.is_none() {
                    let milliseconds = remaining(clock.now());
                    let text = format!(
                        "{} has no carrier; waiting for it for up to {} s",
                        attachment.place.ifname,
                        milliseconds / SECOND,
                    );
                    if send(stream, &Answer::Waiting { milliseconds, text: Some(text) }).await.is_err() {
                        return Ok(false);
                    }
                }
            }
            () = clock.until(late) => {}
            () = clock.until(Some(limit)) => {
                // A network whose routers announce DHCPv6 may have no server.
                return if family == Family::Ipv6 && !attachment.slaac().is_empty() {
                    Ok(true)
                } else {
                    Err(no_lease(daemon, attachment))
                };
            }
        }
    }
}

/// The error of an ADD that got no address in time.
fn no_lease(daemon: &Daemon, attachment: &Attachment) -> Error {
    let (counters, carrier) = attachment.progress();
    let seconds = daemon.flags.resend_timeout / SECOND;
    let ifname = &attachment.place.ifname;
    let ipv6 = attachment.ipv6.as_ref().filter(|_| !attachment.target.settings.family.has_ipv4());
    let (wanted, answered, exchanged) = match ipv6 {
        None => ("lease", counters.offers + counters.naks > 0, ipv4_messages(&counters)),
        Some(ipv6) => {
            let counters = ipv6.counters();
            let answered = ipv6.has_router() || counters.advertises + counters.refusals > 0;
            ("IPv6 address", answered, ipv6_messages(&counters, ipv6.has_router()))
        }
    };
    let failed = |why: &str| {
        Error::new(Code::TRY_AGAIN, format!("no {wanted} for {ifname} within {seconds} s: {why}"))
    };
    let error = match carrier {
        None => failed("it has no carrier").details("its master is down, or has no cable"),
        Some(_) if answered => failed("no server granted one"),
        Some(since) => {
            let carried = daemon.clock.now().since(since) / SECOND;
            let nobody = if ipv6.is_some() { "no router and no DHCPv6 server" } else { "no DHCP server" };
            failed(&format!("{nobody} answered"))
                .details(format!("the link has carried packets for {carried} s; a switch port with spanning tree forwards after 30 s"))
        }
    };
    error.details(exchanged).details("dhcp daemon -resendtimeout sets how long an ADD tries")
}

fn ipv4_messages(counters: &Counters) -> String {
    let Counters { discovers, requests, offers, naks } = counters;
    format!(
        "sent {discovers} DISCOVER and {requests} REQUEST messages, received {offers} OFFER and {naks} NAK messages"
    )
}

fn ipv6_messages(counters: &v6::Counters, router: bool) -> String {
    let v6::Counters { solicits, requests, advertises, refusals } = counters;
    let advertised = if router { "a" } else { "no" };
    format!(
        "sent {solicits} SOLICIT and {requests} REQUEST messages, received {advertises} ADVERTISE messages, \
         {refusals} refusals and {advertised} router advertisement"
    )
}

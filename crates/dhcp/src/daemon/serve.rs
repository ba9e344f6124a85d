//! Calls of plugins and tools.

use std::io;
use std::rc::Rc;

use cni_core::spec::{Code, Error, Result};
use dhcp_client::v4::Event;
use dhcp_client::{SECOND, Time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Daemon;
use super::attachment::Attachment;
use super::log::{Level, log};
use crate::protocol::{self, Answer, Call, Command, GO_CLIENT, Id, Target, VERSION};

/// How long a caller may take to send its call, in milliseconds.
const PATIENCE: u64 = 10 * SECOND;

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
        Command::Check { target, address } => check(daemon, target, address).map(Some),
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
    Ok(Answer::Lease(Box::new(attachment.report())))
}

fn check(daemon: &Rc<Daemon>, target: Target, address: Option<std::net::Ipv4Addr>) -> Result<Answer> {
    if let Some(attachment) = daemon.attachment(&target.id) {
        return Ok(Answer::Lease(Box::new(attachment.report())));
    }
    // Another daemon had it, or this one lost it: INIT-REBOOT finds out whether it is still ours.
    if let Some(address) = address {
        daemon.start(Attachment::adopt(daemon, target, address)?);
    }
    Ok(Answer::Done)
}

async fn add(daemon: &Rc<Daemon>, target: Target, stream: &mut UnixStream) -> Result<Option<Answer>> {
    let begun = daemon.clock.now();
    let attachment = match daemon.attachment(&target.id) {
        // The same ADD again, as a runtime does after it lost the answer.
        Some(earlier) if earlier.is_bound() && earlier.is_of(&target) => earlier,
        earlier => {
            if let Some(earlier) = earlier {
                earlier.release().await;
            }
            let attachment = Attachment::obtain(daemon, target)?;
            daemon.start(attachment.clone());
            attachment
        }
    };
    let got = wait(daemon, &attachment, begun, stream).await;
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
    let mut notice = Some(begun.after(CARRIER_NOTICE));
    let remaining = |now: Time| limit.since(now);
    if !attachment.is_bound() {
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
        if attachment.is_bound() {
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
            () = clock.until(Some(limit)) => return Err(no_lease(daemon, attachment)),
        }
    }
}

/// The error of an ADD that got no lease in time.
fn no_lease(daemon: &Daemon, attachment: &Attachment) -> Error {
    let (counters, carrier) = attachment.progress();
    let seconds = daemon.flags.resend_timeout / SECOND;
    let ifname = &attachment.place.ifname;
    let sent = format!("sent {} DISCOVER and {} REQUEST messages", counters.discovers, counters.requests);
    let received = format!("received {} OFFER and {} NAK messages", counters.offers, counters.naks);
    let error = match carrier {
        None => Error::new(
            Code::TRY_AGAIN,
            format!("no lease for {ifname} within {seconds} s: it has no carrier"),
        )
        .details("its master is down, or has no cable"),
        Some(_) if counters.offers + counters.naks > 0 => Error::new(
            Code::TRY_AGAIN,
            format!("no lease for {ifname} within {seconds} s: no server granted one"),
        ),
        Some(since) => {
            let carried = daemon.clock.now().since(since) / SECOND;
            Error::new(Code::TRY_AGAIN, format!("no lease for {ifname} within {seconds} s: no DHCP server answered"))
                .details(format!("the link has carried packets for {carried} s; a switch port with spanning tree forwards after 30 s"))
        }
    };
    error
        .details(format!("{sent}, {received}"))
        .details("dhcp daemon -resendtimeout sets how long an ADD tries")
}

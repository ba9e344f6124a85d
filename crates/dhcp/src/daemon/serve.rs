//! Calls of plugins and tools.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use cni_core::spec::{Code, Error, Result};
use dhcp_client::{SECOND, v4};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::attachment::Attachment;
use super::log::{Level, log};
use super::{Daemon, add};
use crate::protocol::{self, Answer, Call, Command, GO_CLIENT, Id, Target, VERSION};

/// How long a caller may take to send its call, in milliseconds.
const PATIENCE: u64 = 10 * SECOND;

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

/// Sends an answer.
///
/// # Errors
/// Those of write(2).
pub(super) async fn send(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&protocol::encode(answer)?).await
}

/// Does what is wanted; no answer where the caller is gone.
async fn dispatch(daemon: &Rc<Daemon>, command: Command, stream: &mut UnixStream) -> Result<Option<Answer>> {
    match command {
        Command::Add(target) => add::add(daemon, target, stream).await,
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
            // Each may wait for a server that is away.
            let mut releases = JoinSet::new();
            for attachment in stale {
                releases.spawn_local(async move { attachment.release().await });
            }
            releases.join_all().await;
            Ok(Some(Answer::Done))
        }
        Command::Leases => {
            for attachment in daemon.all() {
                if send(stream, &Answer::Lease(Box::new(attachment.report()))).await.is_err() {
                    return Ok(None);
                }
            }
            Ok(Some(Answer::Done))
        }
        Command::Renew(id) => renew(daemon, &id).map(Some),
    }
}

fn renew(daemon: &Rc<Daemon>, id: &Id) -> Result<Answer> {
    let attachment = daemon
        .attachment(id)
        .ok_or_else(|| Error::new(Code::UNKNOWN_CONTAINER, format!("there is no lease of {}", id.text())))?;
    if let Err(gone) = attachment.place.again() {
        attachment.end(gone.clone());
        return Err(Error::new(Code::UNKNOWN_CONTAINER, format!("the lease of {}: {gone}", id.text())));
    }
    if let Some(ipv4) = &attachment.ipv4 {
        ipv4.step(&attachment, v4::Event::Renew);
    }
    if let Some(ipv6) = &attachment.ipv6 {
        ipv6.renew(&attachment);
    }
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

//! ADD: obtaining a lease while a caller waits.

use std::rc::Rc;

use cni_core::spec::{Code, Error, Result};
use dhcp_client::{SECOND, Time, v4, v6};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::Daemon;
use super::attachment::Attachment;
use super::ipv4::Ipv4;
use super::log::{Level, log};
use super::serve::send;
use crate::protocol::{Answer, Family, Target};

/// For how many milliseconds IPv6 is waited for beside an IPv4 address.
const DUAL: u64 = 2 * SECOND;

/// After so many milliseconds without a carrier the caller hears of it.
const CARRIER_NOTICE: u64 = SECOND;

/// Answers an ADD; no answer where the caller is gone, or has it already.
///
/// # Errors
/// Why there is no address.
pub(super) async fn add(
    daemon: &Rc<Daemon>,
    target: Target,
    stream: &mut UnixStream,
) -> Result<Option<Answer>> {
    let begun = daemon.clock.now();
    let attachment = loop {
        match daemon.attachment(&target.id) {
            // The same ADD again, as a runtime does after it lost the answer.
            Some(earlier) if earlier.has_addresses() && earlier.is_of(&target) => break earlier,
            // While it is released, another call may begin with one.
            Some(earlier) => earlier.release().await,
            None => {
                let attachment = Attachment::obtain(daemon, target)?;
                daemon.start(attachment.clone());
                break attachment;
            }
        }
    };
    let await_ipv6 = |awaited: bool| attachment.ipv6.iter().for_each(|ipv6| ipv6.set_awaited(awaited));
    await_ipv6(true);
    let got = wait(daemon, &attachment, begun, stream).await;
    await_ipv6(false);
    match got {
        Ok(true) => {
            attachment.save();
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
                if attachment.carrier().is_none() {
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
    let seconds = daemon.flags.resend_timeout / SECOND;
    let ifname = &attachment.place.ifname;
    let (wanted, nobody, answered, exchanged) = match (&attachment.ipv4, &attachment.ipv6) {
        (None, Some(ipv6)) => {
            let counters = ipv6.counters();
            let answered = ipv6.has_router() || counters.advertises + counters.refusals > 0;
            let exchanged = ipv6_messages(&counters, ipv6.has_router());
            ("IPv6 address", "no router and no DHCPv6 server", answered, exchanged)
        }
        (ipv4, _) => {
            let counters = ipv4.as_ref().map_or_else(v4::Counters::default, Ipv4::counters);
            let answered = counters.offers + counters.naks > 0;
            ("lease", "no DHCP server", answered, ipv4_messages(&counters))
        }
    };
    let failed = |why: &str| {
        Error::new(Code::TRY_AGAIN, format!("no {wanted} for {ifname} within {seconds} s: {why}"))
    };
    let error = match attachment.carrier() {
        None => failed("it has no carrier").details("its master is down, or has no cable"),
        Some(_) if answered => failed("no server granted one"),
        Some(since) => {
            let carried = daemon.clock.now().since(since) / SECOND;
            failed(&format!("{nobody} answered"))
                .details(format!("the link has carried packets for {carried} s; a switch port with spanning tree forwards after 30 s"))
        }
    };
    error.details(exchanged).details("dhcp daemon -resendtimeout sets how long an ADD tries")
}

fn ipv4_messages(counters: &v4::Counters) -> String {
    let v4::Counters { discovers, requests, offers, naks } = counters;
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

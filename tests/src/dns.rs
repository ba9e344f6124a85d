//! A DNS server on a host.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Host;

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The address of a name.
    Address(Ipv4Addr),
    /// No such name.
    NoName,
    /// It can't tell.
    Failure,
    /// Nothing.
    Silence,
}

/// A server that runs; it stops when this is dropped.
pub struct DnsServer {
    asked: Arc<Mutex<Vec<String>>>,
    running: Arc<()>,
}

impl DnsServer {
    /// Starts a server on port 53 of an address of the host's loopback. `reply` gets the name that is asked for.
    pub fn start(host: &Host, address: &str, reply: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let socket = host.enter(|| UdpSocket::bind((address, 53))).expect("port 53 of the loopback");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let running = Arc::new(());
        let (noted, is_running) = (Arc::clone(&asked), Arc::downgrade(&running));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while is_running.strong_count() > 0 {
                let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
                let Some((name, kind, end)) = question(&query[..length]) else { continue };
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
                if let Some(answer) = answer(&query[..end], kind, reply(&name)) {
                    drop(socket.send_to(&answer, client));
                }
            }
        });
        Self { asked, running }
    }

    /// The names that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.running = Arc::default();
    }
}

/// Name, type and end of the first question of a query (RFC 1035, section 4.1).
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

/// An answer to the header and the question of a query.
fn answer(query: &[u8], kind: u16, reply: Reply) -> Option<Vec<u8>> {
    const A: u16 = 1;
    let (code, address) = match reply {
        Reply::Silence => return None,
        Reply::Failure => (2, None),
        Reply::NoName => (3, None),
        Reply::Address(address) => (0, Some(address).filter(|_| kind == A)),
    };
    let mut answer = query.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The name of the question, type A, class IN, a minute, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

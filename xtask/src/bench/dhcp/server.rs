//! A DHCP server that answers at once, and knows how long that took.

use crate::error::{Context, Failure, Result};
use nix::sched::{CloneFlags, setns};
use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A thread that serves until the process ends.
pub(super) struct Server {
    /// How long each answer took, from the request's arrival until it was sent.
    answers: Arc<Mutex<Vec<Duration>>>,
}

impl Server {
    /// Serves in a namespace with one link.
    ///
    /// # Errors
    /// The namespace can't be entered, or the port can't be had.
    pub(super) fn start(netns: &Path) -> Result<Server> {
        let file = File::open(netns).context(|| format!("can't open {}", netns.display()))?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (opened, opening) = std::sync::mpsc::channel();
        let kept = Arc::clone(&answers);
        std::thread::spawn(move || {
            let socket = setns(file, CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
                .and_then(|()| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)))
                .and_then(|socket| socket.set_broadcast(true).map(|()| socket));
            match socket {
                Ok(socket) => {
                    drop(opened.send(Ok(())));
                    serve(&socket, &kept);
                }
                Err(err) => drop(opened.send(Err(err))),
            }
        });
        let opened = opening.recv().map_err(|_| Failure::new("the server's thread ended"))?;
        opened.context(|| "can't serve DHCP".into())?;
        Ok(Server { answers })
    }

    /// The median of an answer, twice, in microseconds.
    pub(super) fn two_answers_us(&self) -> f64 {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        answers.sort();
        answers.get(answers.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 2e6)
    }
}

fn serve(socket: &UdpSocket, answers: &Mutex<Vec<Duration>>) {
    let mut addresses: HashMap<[u8; 6], u16> = HashMap::new();
    let mut buffer = [0; 2048];
    while let Ok(length) = socket.recv(&mut buffer) {
        let begun = Instant::now();
        let Some(answer) = answer(&buffer[..length], &mut addresses) else { continue };
        drop(socket.send_to(&answer, (Ipv4Addr::BROADCAST, 68)));
        answers.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
    }
}

/// An OFFER or ACK of an address of the MAC address's own, for 12 hours.
fn answer(request: &[u8], addresses: &mut HashMap<[u8; 6], u16>) -> Option<Vec<u8>> {
    let (header, mut options) = request.split_at_checked(240)?;
    let kind = loop {
        match options {
            [53, 1, kind, ..] => break *kind,
            [0, rest @ ..] => options = rest,
            [_, length, rest @ ..] => options = rest.get(usize::from(*length)..)?,
            _ => return None,
        }
    };
    let reply = match kind {
        1 => 2,
        3 => 5,
        _ => return None,
    };
    let mac: [u8; 6] = header[28..34].try_into().ok()?;
    let next = addresses.len() as u16 + 0x0100;
    let [third, fourth] = addresses.entry(mac).or_insert(next).to_be_bytes();
    let mut answer = header.to_vec();
    answer[0] = 2;
    answer[16..20].copy_from_slice(&[10, 66, third, fourth]);
    answer.extend([53, 1, reply, 54, 4, 10, 66, 0, 1, 1, 4, 255, 255, 0, 0, 3, 4, 10, 66, 0, 1, 51, 4]);
    answer.extend(43_200_u32.to_be_bytes());
    answer.push(255);
    answer.resize(300, 0);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::answer;
    use std::collections::HashMap;

    #[test]
    fn each_mac_address_has_an_address_of_its_own() {
        let request = |mac: u8, kind: u8| {
            let mut bytes = vec![0; 240];
            bytes[28] = mac;
            bytes.extend([61, 2, 0, 1, 53, 1, kind, 255]);
            bytes
        };
        let mut addresses = HashMap::new();
        let mut address =
            |mac, kind| answer(&request(mac, kind), &mut addresses).map(|it| (it[16..20].to_vec(), it[242]));
        assert_eq!(address(1, 1), Some((vec![10, 66, 1, 0], 2)));
        assert_eq!(address(2, 1), Some((vec![10, 66, 1, 1], 2)));
        assert_eq!(address(1, 3), Some((vec![10, 66, 1, 0], 5)));
        assert_eq!(address(1, 7), None, "a RELEASE");
        assert_eq!(answer(&[0; 100], &mut HashMap::new()), None);
    }
}

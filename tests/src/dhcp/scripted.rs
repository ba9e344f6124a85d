//! A DHCP server that does what a test wants, however wrong that is.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};

use super::scripted_server::{Message, Server};
use crate::Container;

/// A message of a client.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Message for Request {
    fn read(bytes: &[u8]) -> Option<Request> {
        (bytes.len() >= 240).then(|| Request(bytes.to_vec()))
    }

    /// The message type: 1 DISCOVER, 3 REQUEST, 4 DECLINE, 7 RELEASE.
    fn kind(&self) -> u8 {
        self.option(53).map_or(0, |value| value[0])
    }
}

impl Request {
    /// The value of an option.
    pub fn option(&self, number: u8) -> Option<&[u8]> {
        let mut rest = self.0.get(240..)?;
        while let [code, length, tail @ ..] = rest {
            match *code {
                0 => rest = &rest[1..],
                255 => return None,
                _ if *code == number => return tail.get(..usize::from(*length)),
                _ => rest = tail.get(usize::from(*length)..)?,
            }
        }
        None
    }

    /// Where its answers go: to the address that it has, or to all (RFC 2131, section 4.1).
    fn reply_to(&self) -> Ipv4Addr {
        match self.0[12..16] {
            [0, 0, 0, 0] => Ipv4Addr::BROADCAST,
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d),
            _ => unreachable!("four bytes"),
        }
    }

    /// An answer that is right: an OFFER or ACK of 10.1.2.77/24 from 10.1.2.1 for 1000 s.
    pub fn answer(&self) -> Reply {
        let mut header = self.0[..240].to_vec();
        header[0] = 2;
        header[16..20].copy_from_slice(&[10, 1, 2, 77]);
        let kind = if self.kind() == 1 { 2 } else { 5 };
        let mut options = vec![(53, vec![kind]), (54, vec![10, 1, 2, 1]), (1, vec![255, 255, 255, 0])];
        options.push((51, 1000_u32.to_be_bytes().to_vec()));
        Reply { header, options, port: 67 }
    }
}

/// A message of the server.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The 240 bytes up to the options.
    pub header: Vec<u8>,
    /// The options in their order.
    pub options: Vec<(u8, Vec<u8>)>,
    /// The port that it comes from.
    pub port: u16,
}

impl Reply {
    /// The same with an option in place of one of that number.
    pub fn with(mut self, number: u8, value: &[u8]) -> Reply {
        self.options.retain(|(other, _)| *other != number);
        self.options.push((number, value.to_vec()));
        self
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for (number, value) in &self.options {
            bytes.extend([*number, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes
    }
}

/// A server of DHCPv4 that runs until it is dropped.
pub type Scripted = Server<Request>;

impl Scripted {
    /// A server on the link `eth0` of a namespace: `script` gets each message and how many of its
    /// type came before, and gives what is sent in answer, with the port that it comes from.
    pub fn start(
        machine: &Container<'_>,
        script: impl Fn(&Request, usize) -> Vec<(u16, Vec<u8>)> + Send + 'static,
    ) -> Scripted {
        let open = |port: u16| {
            let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).expect("a port");
            setsockopt(&socket, sockopt::BindToDevice, &"eth0".into()).expect("binding to eth0");
            socket.set_broadcast(true).expect("broadcasting");
            socket
        };
        let (socket, other) = machine.enter(|| (open(67), open(1067)));
        Server::run(socket, move |socket, request, before, _| {
            for (port, bytes) in script(request, before) {
                let from = if port == 67 { socket } else { &other };
                drop(from.send_to(&bytes, SocketAddrV4::new(request.reply_to(), 68)));
            }
        })
    }
}

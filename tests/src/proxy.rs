//! A proxy on a host, for one client program at a time.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::Host;
use crate::apiserver::ApiServer;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP's CONNECT.
    Http,
    /// The same over TLS, with a certificate of the API server's authority.
    Https,
    /// RFC 1928 and 1929.
    Socks5,
}

/// A proxy that runs; it stops when this is dropped. It knows the name `api.cluster.test` as the host's loopback.
pub struct Proxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
    stop: Arc<Notify>,
}

impl Proxy {
    /// Starts a proxy on the loopback of the API server's host. Clients must log in where there are
    /// credentials, `name:password`.
    pub fn start(host: &Host, api: &ApiServer, kind: ProxyKind, credentials: Option<&str>) -> Self {
        let listener = host.enter(|| StdListener::bind("127.0.0.1:0")).expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("a bound socket");
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(Notify::new());
        let serving = Serving {
            kind,
            credentials: credentials.map(str::to_owned),
            tls: api.acceptor(),
            tunnels: Arc::clone(&tunnels),
        };
        let stopped = Arc::clone(&stop);
        // The thread stays in the host's network, from which it connects.
        host.enter(|| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    tokio::select! {
                        () = stopped.notified() => {}
                        () = serve(listener, Arc::new(serving)) => {}
                    }
                });
            });
        });
        Self { address, tunnels, stop }
    }

    /// Its port on the host's loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The targets of all tunnels so far, as the client named them.
    pub fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

struct Serving {
    kind: ProxyKind,
    credentials: Option<String>,
    tls: TlsAcceptor,
    tunnels: Arc<Mutex<Vec<String>>>,
}

async fn serve(listener: StdListener, serving: Arc<Serving>) {
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    while let Ok((stream, _)) = listener.accept().await {
        let serving = Arc::clone(&serving);
        // How a client leaves is its own affair.
        tokio::spawn(async move { drop(serving.connection(stream).await) });
    }
}

impl Serving {
    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        match self.kind {
            ProxyKind::Http => self.http(stream).await,
            ProxyKind::Https => self.http(self.tls.accept(stream).await?).await,
            ProxyKind::Socks5 => self.socks5(stream).await,
        }
    }

    async fn http(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let header = |credentials: &String| format!("Basic {}\r\n", BASE64_STANDARD.encode(credentials));
        if self.credentials.as_ref().map(header).is_some_and(|header| !head.contains(&header)) {
            return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        }
        if !head.starts_with("CONNECT ") {
            return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
        }
        let server = self.connect(&target).await?;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        relay(client, server).await
    }

    async fn socks5(&self, mut client: TcpStream) -> io::Result<()> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let _version = client.read_u8().await?;
        let methods = counted(&mut client).await?;
        let method = if self.credentials.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            return client.write_all(&[5, 0xff]).await;
        }
        client.write_all(&[5, method]).await?;
        if let Some(credentials) = &self.credentials {
            let _version = client.read_u8().await?;
            let (name, password) = (counted(&mut client).await?, counted(&mut client).await?);
            let given = [name, password].map(|text| String::from_utf8_lossy(&text).into_owned()).join(":");
            let refused = u8::from(given != *credentials);
            client.write_all(&[1, refused]).await?;
            if refused != 0 {
                return Ok(());
            }
        }
        let mut request = [0; 4];
        client.read_exact(&mut request).await?;
        let host = match request {
            [5, 1, 0, 1] => std::net::Ipv4Addr::from(client.read_u32().await?).to_string(),
            [5, 1, 0, 3] => String::from_utf8_lossy(&counted(&mut client).await?).into_owned(),
            _ => return Err(wrong()),
        };
        let port = client.read_u16().await?;
        let server = self.connect(&format!("{host}:{port}")).await?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        relay(client, server).await
    }

    async fn connect(&self, target: &str) -> io::Result<TcpStream> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
        TcpStream::connect(target.replace("api.cluster.test", "127.0.0.1")).await
    }
}

/// Bytes with their count before them.
async fn counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn relay(mut client: impl AsyncRead + AsyncWrite + Unpin, mut server: TcpStream) -> io::Result<()> {
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

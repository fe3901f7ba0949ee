//! The proxy on a node: connections that its kernel hands to it go on to where they were to go, and
//! are slow, thin or broken on the way.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::helper;
use crate::scenario::Degradation;

/// The first argument by which this program is told to be a proxy.
pub(super) const ARGUMENT: &str = "outage-proxy";

/// Marks the proxy's own packets, so that they are not led to it again. kube-proxy uses 0x4000 and
/// 0x8000.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/proxy/iptables/proxier.go>
pub(super) const MARK: u32 = 0x1000_0000;

/// What is read at once.
const CHUNK: usize = 16 << 10;

/// What may be under way of a delayed connection, in chunks.
const UNDER_WAY: usize = 1024;

/// What a proxy is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// By which it can be told from another.
    pub(super) name: String,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    pub(super) by: Degradation,
}

/// Is a proxy until it is killed, if that is what this program was started as.
pub(in crate::fault) fn stand_in() -> Option<ExitCode> {
    helper::stand_in(ARGUMENT, serve)
}

async fn serve(orders: Orders) -> io::Result<Infallible> {
    let listener = TcpListener::bind(orders.listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // What can't be reached is a connection that ends.
            let _ = pass(client, orders.listen, orders.by).await;
        });
    }
}

/// Where a connection was to go before the kernel handed it over.
fn destination(client: &TcpStream) -> io::Result<SocketAddr> {
    let original = getsockopt(client, sockopt::OriginalDst)?;
    let address = IpAddr::V4(Ipv4Addr::from(u32::from_be(original.sin_addr.s_addr)));
    Ok(SocketAddr::new(address, u16::from_be(original.sin_port)))
}

async fn pass(client: TcpStream, own: SocketAddr, by: Degradation) -> io::Result<()> {
    let to = destination(&client)?;
    if to == own {
        return show(client, by).await;
    }
    let socket = TcpSocket::new_v4()?;
    setsockopt(&socket, sockopt::Mark, &MARK)?;
    let server = match socket.connect(to).await {
        Ok(server) => server,
        Err(error) => {
            reset(&client)?;
            return Err(error);
        }
    };
    between(client, server, by).await
}

/// Somebody asks the proxy itself: when a byte has come it sends zeros without end, by the way that all
/// others take, so that who asks sees what becomes of them.
async fn show(client: TcpStream, by: Degradation) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let mut source = far?.0;
    let zeros = async {
        // Not before: whoever is still connecting could miss that the connection was reset later.
        source.read_exact(&mut [0]).await?;
        loop {
            source.write_all(&[0; CHUNK]).await?;
        }
    };
    tokio::select! {
        shown = between(client, near?, by) => shown,
        ended = zeros => ended,
    }
}

/// Carries both ways until both have ended.
async fn between(mut client: TcpStream, mut server: TcpStream, by: Degradation) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let passed = AtomicU64::new(0);
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let there = carry(client_read, server_write, by, &passed);
    let back = carry(server_read, client_write, by, &passed);
    tokio::try_join!(there, back).map(drop)
}

/// Carries one way. An error ends the other one, too.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    by: Degradation,
    passed: &AtomicU64,
) -> io::Result<()> {
    if let Degradation::Delay(delay) = by {
        return carry_later(from, to, delay).await;
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        let most = match by {
            // A tenth of a second's worth: it flows, and does not come in lumps.
            Degradation::Bandwidth(rate) => (rate as usize / 10).clamp(1, CHUNK),
            _ => CHUNK,
        };
        let count = from.read(&mut buffer[..most]).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let chunk = &mut buffer[..count];
        let total = passed.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        match by {
            Degradation::Bandwidth(rate) => {
                #[expect(clippy::cast_precision_loss, reason = "at most 16 KiB")]
                let seconds = count as f64 / f64::from(rate);
                sleep(Duration::from_secs_f64(seconds)).await;
            }
            Degradation::ResetAfter(limit) if total > u64::from(limit) => {
                reset(from.as_ref())?;
                reset(to.as_ref())?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Degradation::CorruptAfter(limit) if total > u64::from(limit) => {
                if let Some(last) = chunk.last_mut() {
                    *last ^= 1;
                }
            }
            _ => {}
        }
        to.write_all(chunk).await?;
    }
}

/// What arrives is sent when its time has come, and more is read meanwhile.
async fn carry_later(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            let count = from.read(&mut chunk).await?;
            chunk.truncate(count);
            // An empty chunk says that nothing more comes.
            if sender.send((Instant::now() + delay, chunk)).await.is_err() || count == 0 {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            if chunk.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Makes the end of a connection a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's and a server's end, with the proxy's carrying between them.
    async fn ends(by: Degradation) -> (TcpStream, TcpStream) {
        let pair = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            (near.unwrap(), far.unwrap().0)
        };
        let ((client, near), (far, server)) = tokio::join!(pair(), pair());
        tokio::spawn(between(near, far, by));
        (client, server)
    }

    async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut read = vec![0; count];
        stream.read_exact(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn what_is_delayed_arrives_later_either_way_and_so_does_the_end() {
        let delay = Duration::from_millis(150);
        let (mut client, mut server) = ends(Degradation::Delay(delay)).await;
        let start = Instant::now();
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut server, 3).await, b"ask");
        assert!(start.elapsed() >= delay);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read(&mut client, 6).await, b"answer");
        assert!(start.elapsed() >= 2 * delay);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn no_more_than_the_bandwidth_passes() {
        let (mut client, mut server) = ends(Degradation::Bandwidth(10_000)).await;
        let start = Instant::now();
        client.write_all(&[7; 3000]).await.unwrap();
        assert_eq!(read(&mut server, 3000).await, [7; 3000]);
        assert!(start.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn a_connection_is_reset_when_enough_has_passed_both_ways() {
        let (mut client, mut server) = ends(Degradation::ResetAfter(10)).await;
        client.write_all(b"12345").await.unwrap();
        assert_eq!(read(&mut server, 5).await, b"12345");
        server.write_all(b"67890").await.unwrap();
        assert_eq!(read(&mut client, 5).await, b"67890");
        client.write_all(b"x").await.unwrap();
        for stream in [&mut client, &mut server] {
            let error = stream.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }

    /// What a proxy shows of itself.
    async fn shown(by: Degradation) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        tokio::spawn(show(far.unwrap().0, by));
        let mut near = near.unwrap();
        near.write_all(b"?").await.unwrap();
        near
    }

    #[tokio::test]
    async fn whoever_asks_the_proxy_itself_sees_what_it_does() {
        let start = Instant::now();
        read(&mut shown(Degradation::Bandwidth(10_000)).await, 3000).await;
        assert!(start.elapsed() >= Duration::from_millis(300));
        let corrupt = read(&mut shown(Degradation::CorruptAfter(10)).await, 3 * CHUNK).await;
        assert!(corrupt.contains(&1));
        let mut reset = shown(Degradation::ResetAfter(100_000)).await;
        let mut passed = 0;
        let error = loop {
            match reset.read(&mut [0; CHUNK]).await {
                Ok(count) => passed += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(passed <= 100_000, "{passed}");
    }

    #[tokio::test]
    async fn what_comes_later_is_changed() {
        let (mut client, mut server) = ends(Degradation::CorruptAfter(3)).await;
        client.write_all(b"abc").await.unwrap();
        assert_eq!(read(&mut server, 3).await, b"abc");
        client.write_all(b"abc").await.unwrap();
        assert_eq!(read(&mut server, 3).await, b"abb");
        server.write_all(b"c").await.unwrap();
        assert_eq!(read(&mut client, 1).await, b"b");
    }
}

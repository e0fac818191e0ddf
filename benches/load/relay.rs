//! The floor: a relay that does nothing but pass bytes on, as plainly as tokio lets it be written. One thread and
//! one single-threaded runtime per core, like Tidegate, and `copy_bidirectional` with its own buffers; with TLS
//! towards the client, rustls with the same provider.
//!
//! Run by the benchmark as a process of its own, so that its CPU is told apart.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub struct Plan {
    pub listen: u16,
    pub server: u16,
    pub threads: usize,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Never returns.
pub fn serve(plan: &Plan) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", plan.listen)).expect("a free port");
    let workers: Vec<_> = (0..plan.threads).map(|_| worker()).collect();
    let (server, tls) = (plan.server, plan.tls.clone().map(TlsAcceptor::from));
    for turn in 0.. {
        let (client, _) = listener.accept().expect("a connection");
        client.set_nonblocking(true).expect("no blocking");
        let tls = tls.clone();
        workers[turn % workers.len()].spawn(async move {
            // Whatever goes wrong, both ends are closed.
            let _ = relay(client, server, tls).await;
        });
    }
}

fn worker() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

async fn relay(client: std::net::TcpStream, server: u16, tls: Option<TlsAcceptor>) -> std::io::Result<()> {
    let mut client = TcpStream::from_std(client)?;
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    server.set_nodelay(true)?;
    match tls {
        None => copy_bidirectional(&mut client, &mut server).await?,
        Some(tls) => {
            // PostgreSQL's way to TLS: eight bytes ask for it, one answers.
            client.read_exact(&mut [0; 8]).await?;
            client.write_all(b"S").await?;
            copy_bidirectional(&mut tls.accept(client).await?, &mut server).await?
        }
    };
    Ok(())
}

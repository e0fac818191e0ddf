//! What real clients make of our words: a listener of a few lines, behind which our machine takes the
//! login and then refuses it. Not run by default, since it needs `psql`:
//!
//! ```text
//! cargo test --lib postgres::tests::clients -- --ignored
//! ```

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use bytes::BytesMut;

use super::accept::{answer, machine};
use crate::model::Refusal;
use crate::protocol::session::{Accept, AcceptInput, AcceptStep, TlsOffer};

/// Takes logins, and refuses each with the next of these once it has succeeded. Gives the port.
fn serve(refusals: Vec<Refusal>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for refusal in refusals {
            let mut socket = listener.accept().unwrap().0;
            let mut machine = machine(TlsOffer::Unavailable, Some("orders"));
            let (mut input, mut out, mut buffer) = (BytesMut::new(), BytesMut::new(), [0; 4096]);
            loop {
                let mut step = machine.step(AcceptInput::Bytes(&mut input), &mut out).unwrap();
                if let AcceptStep::Ask(question) = step {
                    step = machine.step(AcceptInput::Answer(answer(question)), &mut out).unwrap();
                }
                match step {
                    AcceptStep::Login(_) => machine.refuse(&refusal, &mut out),
                    AcceptStep::Refuse(refusal, _) => machine.refuse(&refusal, &mut out),
                    _ => {}
                }
                socket.write_all(&out).unwrap();
                out.clear();
                match socket.read(&mut buffer) {
                    Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
        }
    });
    port
}

fn psql(port: u16, password: &str) -> String {
    let output = Command::new("psql")
        .args(["-X", "-w", "-c", "SELECT 1", &format!("host=127.0.0.1 port={port} user=alice dbname=shop")])
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
#[ignore = "needs psql"]
fn psql_shows_every_refusal() {
    let port = serve(Refusal::every());
    for refusal in Refusal::every() {
        let shown = psql(port, "tg_right");
        assert!(shown.ends_with(&format!("FATAL:  {}: {refusal}\n", refusal.code())), "{shown}");
    }
}

#[test]
#[ignore = "needs psql"]
fn psql_with_a_wrong_secret_is_told_so() {
    let shown = psql(serve(vec![Refusal::Killed]), "tg_wrong");
    assert!(shown.ends_with("FATAL:  TG001: the login was not accepted\n"), "{shown}");
}

/// The driver of many services, which also checks our SCRAM signature before it reads on.
#[cfg(feature = "server")]
#[tokio::test]
async fn tokio_postgres_shows_every_refusal() {
    let port = serve(Refusal::every());
    for refusal in Refusal::every() {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("alice").password("tg_right").dbname("shop");
        let Err(error) = config.connect(tokio_postgres::NoTls).await else {
            panic!("{refusal} was not said")
        };
        let error = error.as_db_error().unwrap();
        assert_eq!(error.message(), format!("{}: {refusal}", refusal.code()));
        assert_eq!(error.code().code(), super::super::refusal::sqlstate(&refusal));
        assert_eq!(error.parsed_severity(), Some(tokio_postgres::error::Severity::Fatal));
    }
}

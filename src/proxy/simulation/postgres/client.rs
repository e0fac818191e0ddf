//! A client: logs in, does what its dice say, looks at every answer, and leaves in one way or another.

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::stage::{DATABASE, secret};
use super::super::witness::Tag;
use super::super::{PATIENCE, Player, pick};
use super::lane::{Lane, Message, lost};
use super::server::OWNER;
use crate::credential::Secret;
use crate::credential::scram;
use crate::tls::memory::Pipe;

/// Why a client does not go on.
enum Stop {
    /// It was told, or saw, that it is over.
    Over(Option<String>),
    /// It goes, without a word.
    Vanish,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Over(None)
    }
}

struct Client {
    player: Player,
    lane: Lane,
    /// Answers to requests that end with a ReadyForQuery, which have not come.
    due: u32,
    status: u8,
    key: Vec<u8>,
    /// The server waits for the data of a COPY.
    copying: bool,
    entered: bool,
    /// Statements that are prepared there, by number.
    prepared: u32,
}

pub async fn play(player: Player, pipe: Pipe) {
    let (witness, number) = (player.witness.clone(), player.number);
    let mut client = Client {
        player,
        lane: Lane::new(pipe),
        due: 0,
        status: b'I',
        key: Vec::new(),
        copying: false,
        entered: false,
        prepared: 0,
    };
    match client.live().await {
        Err(Stop::Over(code)) => witness.ended(number, code.as_deref()),
        Ok(()) | Err(Stop::Vanish) => {
            witness.tell(format_args!("c{number} leaves"));
            witness.with(number, |known| known.left = Some(tokio::time::Instant::now()));
        }
    }
}

impl Client {
    async fn live(&mut self) -> Result<(), Stop> {
        self.log_in().await?;
        for _ in 0..self.player.plan.operations {
            self.operate().await?;
        }
        if self.player.dice.once_in(3) {
            return Err(Stop::Vanish);
        }
        self.player.witness.with(self.player.number, |known| {
            known.left = Some(tokio::time::Instant::now());
        });
        self.lane.say(b'X', b"");
        self.send().await;
        if self.player.dice.once_in(2) {
            // Until the other side has shut its own.
            let end = async { while self.turn().await.is_ok() {} };
            if tokio::time::timeout(PATIENCE, end).await.is_err() {
                self.wrong("the connection is not closed after a goodbye");
            }
        }
        Ok(())
    }

    /// Writes what is to be written. That the other side has gone is found out by reading what it said last.
    async fn send(&mut self) {
        if self.lane.flush().await.is_err() {
            self.lane.out.clear();
        }
    }

    fn wrong(&self, what: &str) {
        self.player.witness.wrong(format_args!("c{}: {what}", self.player.number));
    }

    /// Writes and reads what can be.
    async fn turn(&mut self) -> io::Result<()> {
        let Lane { pipe, input, out } = &mut self.lane;
        std::future::poll_fn(|cx| {
            let mut moved = false;
            if !out.is_empty()
                && let Poll::Ready(count) = Pin::new(&mut *pipe).poll_write(cx, out)
            {
                // Whoever cannot write may still be told why.
                match count {
                    Ok(count) => out.advance(count),
                    Err(_) => out.clear(),
                }
                moved = true;
            }
            let mut space = [0; 4_096];
            let mut buffer = ReadBuf::new(&mut space);
            if let Poll::Ready(read) = Pin::new(&mut *pipe).poll_read(cx, &mut buffer) {
                read?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(lost()));
                }
                input.extend_from_slice(buffer.filled());
                moved = true;
            }
            if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Goes on until this is so; whoever does not come to that waits for ever.
    async fn until(&mut self, so: impl Fn(&Self) -> bool) -> Result<(), Stop> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            while let Some(message) = self.lane.take()? {
                self.hear(&message)?;
            }
            if so(self) {
                self.player.witness.with(self.player.number, |known| known.deaf = false);
                return Ok(());
            }
            match tokio::time::timeout_at(deadline, self.turn()).await {
                Ok(moved) => moved?,
                Err(_) => {
                    self.wrong(&format!("waits for ever, {} answers are due", self.due));
                    return Err(Stop::Vanish);
                }
            }
        }
    }

    async fn settle(&mut self) -> Result<(), Stop> {
        self.until(|client| client.due == 0 && client.lane.out.is_empty()).await
    }

    /// Listens for a while.
    async fn rest(&mut self, time: Duration) -> Result<(), Stop> {
        let end = tokio::time::Instant::now() + time;
        loop {
            while let Some(message) = self.lane.take()? {
                self.hear(&message)?;
            }
            match tokio::time::timeout_at(end, self.turn()).await {
                Ok(moved) => moved?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Does nothing for a while, not even listen.
    async fn sleep(&mut self, time: Duration) {
        self.player.witness.with(self.player.number, |known| known.deaf = true);
        tokio::time::sleep(time).await;
    }

    fn hear(&mut self, message: &Message) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(&message.body);
        match message.tag {
            b'D' | b'd' | b'E' => {
                for tag in Tag::all(&text) {
                    self.player.witness.answered(self.player.number, tag);
                }
                if message.tag == b'E' {
                    let fields = message.strings();
                    if fields[0] == "SFATAL" {
                        let said = fields.iter().find_map(|field| field.strip_prefix('M'));
                        let code = said.and_then(|said| said.split(':').next()).unwrap_or_default();
                        return Err(Stop::Over(Some(code.to_owned())));
                    }
                    self.copying = false;
                }
            }
            b'G' => self.copying = true,
            b'K' => self.key = message.body.clone(),
            b'Z' => {
                if self.entered && self.due == 0 {
                    self.wrong("an answer that nobody asked for");
                }
                self.due = self.due.saturating_sub(1);
                self.status = message.body[0];
                self.copying = false;
            }
            b'C' | b'1' | b'2' | b'3' | b'T' | b'n' | b'S' | b'N' | b'H' | b'c' | b'I' | b'R' => {}
            other => self.wrong(&format!("is sent {:?}", char::from(other))),
        }
        Ok(())
    }

    async fn log_in(&mut self) -> Result<(), Stop> {
        let who = self.player.who.clone();
        let mine = format!("of{}", self.player.number);
        let login = format!("{}+{}", who.user, who.level);
        let mut body = Vec::new();
        body.put_u32(3 << 16);
        for (name, value) in
            [("user", &*login), ("database", DATABASE), ("application_name", &*mine), (OWNER, &*mine)]
        {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        self.lane.out.put_u32(4 + body.len() as u32);
        self.lane.out.extend_from_slice(&body);
        match self.player.dice.below(20) {
            // Begins, and is seen no more.
            0 => {
                let some = self.player.dice.below(body.len() as u64) as usize;
                self.lane.out.truncate(some);
                self.send().await;
                self.rest(Duration::from_secs(2)).await?;
                return Err(Stop::Vanish);
            }
            1 => return self.lie(&who.user).await,
            _ => {}
        }
        self.prove(&secret(&who)).await?;
        if self.player.dice.once_in(20) {
            self.send().await;
            return Err(Stop::Vanish);
        }
        self.due = 1;
        // The first ReadyForQuery.
        self.until(|client| client.due == 0).await?;
        self.entered = true;
        self.player.witness.entered(self.player.number);
        Ok(())
    }

    /// Claims to be somebody without knowing how to prove it.
    async fn lie(&mut self, user: &str) -> Result<(), Stop> {
        let wrong = Secret::new(user.to_owned(), zeroize::Zeroizing::new("guessed".into()), 0);
        self.prove(&wrong).await?;
        self.due = 1;
        match self.until(|client| client.due == 0).await {
            Err(Stop::Over(code)) => match code.as_deref() {
                None | Some("TG001") => Err(Stop::Vanish),
                Some(other) => {
                    self.wrong(&format!("is told {other} for a wrong proof"));
                    Err(Stop::Vanish)
                }
            },
            Ok(()) => {
                self.wrong("is let in with a wrong proof");
                Err(Stop::Vanish)
            }
            stop => stop,
        }
    }

    async fn prove(&mut self, secret: &Secret) -> Result<(), Stop> {
        let mut exchange = scram::Client::new(secret, "clientnonce");
        self.authentication().await?;
        let first = exchange.client_first();
        let body = [b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes()[..], &first].concat();
        self.lane.say(b'p', &body);
        let challenge = self.authentication().await?;
        let last = exchange.server_first(&challenge).map_err(io::Error::other)?;
        self.lane.say(b'p', &last);
        Ok(())
    }

    /// The next request for a proof, without its kind.
    async fn authentication(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            match self.lane.take()? {
                Some(message) if message.tag == b'R' => return Ok(message.body[4..].to_vec()),
                Some(message) => self.hear(&message)?,
                None => match tokio::time::timeout(PATIENCE, self.turn()).await {
                    Ok(moved) => moved?,
                    Err(_) => {
                        self.wrong("waits for ever to be asked for a proof");
                        return Err(Stop::Vanish);
                    }
                },
            }
        }
    }

    fn tag(&self) -> Tag {
        self.player.witness.next_tag(self.player.number)
    }

    fn query(&mut self, text: &str) {
        self.lane.say(b'Q', format!("{text}\0").as_bytes());
        self.due += 1;
    }

    async fn operate(&mut self) -> Result<(), Stop> {
        match self.player.dice.below(24) {
            0..8 => {
                let text = self.statement();
                self.query(&text);
                self.settle().await
            }
            8..12 => self.pipeline().await,
            12 | 13 => {
                let time = self.player.dice.millis(0, 3_000);
                self.rest(time).await
            }
            14 => {
                // Asks for more than it reads.
                let text = self.rows();
                self.query(&text);
                let time = self.player.dice.millis(0, 4_000);
                let _ = tokio::time::timeout(time, self.lane.flush()).await;
                self.sleep(time).await;
                self.settle().await
            }
            15..17 => self.copy().await,
            17 | 18 => self.interrupted().await,
            19 | 20 => self.hesitate().await,
            21 => {
                // A transaction.
                for text in ["BEGIN", "SELECT", "COMMIT"] {
                    let tag = self.tag();
                    let text = if text == "SELECT" {
                        format!("SELECT '{tag}'")
                    } else {
                        format!("{text} /* {tag} */")
                    };
                    self.query(&text);
                    self.settle().await?;
                }
                Ok(())
            }
            22 => self.rest(Duration::from_secs(7)).await,
            _ if self.player.dice.once_in(4) => {
                // In the middle of something.
                let text = self.statement();
                self.query(&text);
                let some = self.player.dice.below(self.lane.out.len() as u64 + 1) as usize;
                self.lane.out.truncate(some);
                self.send().await;
                let time = self.player.dice.millis(0, 500);
                self.rest(time).await?;
                Err(Stop::Vanish)
            }
            _ => Ok(()),
        }
    }

    fn rows(&mut self) -> String {
        let tag = self.tag();
        let most = (self.player.plan.clients_weather.capacity / 10).clamp(20, 2_000) as u64;
        format!("SELECT '{tag}', n FROM generate_series(1, {}) AS n", self.player.dice.range(1, most))
    }

    /// Some statement.
    fn statement(&mut self) -> String {
        let roll = self.player.dice.below(24);
        if roll == 0 {
            return self.rows();
        }
        let tag = self.tag();
        match roll {
            1 => format!("SELECT 1/0 /* {tag} */"),
            2 => format!("SELECT '{tag}', pg_sleep({:.3})", self.player.dice.range(1, 3_000) as f64 / 1e3),
            3 => format!("BEGIN /* {tag} */"),
            4 => format!("COMMIT /* {tag} */"),
            5 | 6 => format!("ROLLBACK /* {tag} */"),
            7 if self.player.dice.once_in(3) => format!("SET my.x TO '{tag}'"),
            7 | 17 | 18 => {
                format!("SET {} TO '{tag}'", pick(&mut self.player.dice, &["work_mem", "search_path"]))
            }
            8 => format!("SET ROLE \"{tag}\""),
            9 => format!("CREATE TEMP TABLE \"{tag}\" ()"),
            10 => format!("LISTEN \"{tag}\""),
            11 => format!("SELECT '{tag}', pg_advisory_lock(1)"),
            12 => format!("PREPARE \"{tag}\" AS SELECT 1"),
            13 => format!("DECLARE \"{tag}\" CURSOR WITH HOLD FOR SELECT 1"),
            14 => format!("SELECT '{tag}', setseed(0.5)"),
            15 => format!("DISCARD ALL /* {tag} */"),
            16 => format!("NONSENSE '{tag}'"),
            _ => format!("SELECT '{tag}'"),
        }
    }

    /// A few statements of the extended protocol before any answer is read.
    async fn pipeline(&mut self) -> Result<(), Stop> {
        for _ in 0..self.player.dice.range(1, 6) {
            let name = match self.player.dice.below(3) {
                0 => {
                    let text = self.statement();
                    self.lane.say(b'P', format!("\0{text}\0\0\0").as_bytes());
                    self.bind("", None);
                    None
                }
                1 => {
                    self.prepared += 1;
                    let name = format!("of{}_{}", self.player.number, self.prepared);
                    self.lane.say(b'P', format!("{name}\0SELECT $1\0\0\0").as_bytes());
                    Some(name)
                }
                _ if self.prepared == 0 => continue,
                _ => {
                    let known = self.player.dice.range(1, u64::from(self.prepared));
                    Some(format!("of{}_{known}", self.player.number))
                }
            };
            if let Some(name) = name {
                let tag = self.tag();
                self.bind(&name, Some(tag));
            }
            if self.player.dice.once_in(2) {
                self.lane.say(b'D', b"P\0");
            }
            self.lane.say(b'E', &[0; 5]);
            if self.player.dice.once_in(3) {
                self.lane.say(b'S', b"");
                self.due += 1;
            }
        }
        self.lane.say(b'S', b"");
        self.due += 1;
        self.settle().await
    }

    fn bind(&mut self, name: &str, tag: Option<Tag>) {
        let mut body = format!("\0{name}\0").into_bytes();
        body.put_u16(0);
        body.put_u16(u16::from(tag.is_some()));
        if let Some(tag) = tag {
            let text = tag.to_string();
            body.put_u32(text.len() as u32);
            body.extend_from_slice(text.as_bytes());
        }
        body.put_u16(0);
        self.lane.say(b'B', &body);
    }

    async fn copy(&mut self) -> Result<(), Stop> {
        let tag = self.tag();
        if self.player.dice.once_in(2) {
            let count = self.player.dice.range(1, 100);
            self.query(&format!("COPY (SELECT '{tag}', n FROM generate_series(1, {count}) AS n) TO STDOUT"));
            return self.settle().await;
        }
        self.query(&format!("COPY t FROM STDIN /* {tag} */"));
        self.until(|client| client.copying || client.due == 0).await?;
        if self.due == 0 {
            return Ok(());
        }
        for _ in 0..self.player.dice.below(20) {
            self.lane.say(b'd', format!("{tag}\n").as_bytes());
            if self.player.dice.once_in(4) {
                let time = self.player.dice.millis(0, 800);
                self.rest(time).await?;
            }
        }
        match self.player.dice.below(6) {
            0 => self.lane.say(b'f', b"no\0"),
            1 => {
                self.send().await;
                return Err(Stop::Vanish);
            }
            _ => self.lane.say(b'c', b""),
        }
        self.settle().await
    }

    /// Something long, and a request to stop it that may come too early or too late.
    async fn interrupted(&mut self) -> Result<(), Stop> {
        let tag = self.tag();
        let seconds = *pick(&mut self.player.dice, &[0.1, 2.0, 25.0]);
        self.query(&format!("SELECT '{tag}', pg_sleep({seconds})"));
        let time = self.player.dice.millis(0, 2_500);
        self.rest(time).await?;
        if self.player.dice.once_in(5) {
            return Err(Stop::Vanish);
        }
        if !self.player.dice.once_in(4) {
            self.player.witness.with(self.player.number, |known| known.asked_to_stop = true);
            (self.player.stop)(self.key.clone());
        }
        self.settle().await
    }

    /// Half of a message, and the rest later.
    async fn hesitate(&mut self) -> Result<(), Stop> {
        let text = self.statement();
        self.query(&text);
        let whole = self.lane.out.split();
        let some = self.player.dice.below(whole.len() as u64 + 1) as usize;
        self.lane.out.extend_from_slice(&whole[..some]);
        let time = self.player.dice.millis(0, 3_000);
        self.rest(time).await?;
        self.lane.out.extend_from_slice(&whole[some..]);
        self.settle().await
    }
}

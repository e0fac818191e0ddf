//! A client: logs in, does what its dice say, looks at every answer, and leaves in one way or another.

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::stage::{DATABASE, LEVELS, USERS, secret};
use super::super::witness::{Tag, Who};
use super::super::{PATIENCE, Player, pick};
use super::capability;
use super::lane::{Lane, Packet, lost};
use crate::credential::mysql::answer_caching_sha2;
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

/// Where an answer stands.
enum Answer {
    Begins,
    /// So many definitions of columns, and whether an EOF follows them.
    Definitions(usize),
    EndOfDefinitions,
    Rows,
}

struct Client {
    player: Player,
    lane: Lane,
    agreed: u32,
    /// Answers that have not come to their end.
    due: u32,
    answer: Answer,
    /// The number that the next packet of the answer must have.
    next: u8,
}

pub async fn play(player: Player, pipe: Pipe) {
    let witness = player.witness.clone();
    let mut client = Client {
        agreed: capability::of_client(player.number),
        player,
        lane: Lane::new(pipe),
        due: 0,
        answer: Answer::Begins,
        next: 1,
    };
    let end = client.live().await;
    // Another than at first, perhaps.
    let number = client.player.number;
    match end {
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
        self.lane.number = 0;
        self.lane.say(&[1]);
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
        let Lane { pipe, input, out, .. } = &mut self.lane;
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

    fn hear_all(&mut self) -> Result<(), Stop> {
        while let Some(packet) = self.lane.take() {
            self.hear(&packet)?;
        }
        Ok(())
    }

    /// Until all answers are there; whoever does not come to that waits for ever.
    async fn settle(&mut self) -> Result<(), Stop> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.hear_all()?;
            if self.due == 0 && self.lane.out.is_empty() {
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

    /// Listens for a while.
    async fn rest(&mut self, time: Duration) -> Result<(), Stop> {
        let end = tokio::time::Instant::now() + time;
        loop {
            self.hear_all()?;
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

    fn answered(&self, text: &str) {
        for tag in Tag::all(text) {
            self.player.witness.answered(self.player.number, tag);
        }
    }

    fn hear(&mut self, packet: &Packet) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(&packet.body).into_owned();
        let first = packet.body.first().copied();
        if first == Some(0xff)
            && let Some(code) = code(&text)
        {
            return Err(Stop::Over(Some(code)));
        }
        if self.due == 0 {
            self.wrong("an answer that nobody asked for");
            return Err(Stop::Vanish);
        }
        if packet.number != self.next {
            self.wrong(&format!("packet {} and not {}", packet.number, self.next));
        }
        self.next = self.next.wrapping_add(1);
        let over = match (&mut self.answer, first) {
            (_, Some(0xff)) => {
                self.answered(&text);
                true
            }
            (Answer::Begins, Some(0)) => true,
            (Answer::Begins, Some(columns @ 1..=250)) => {
                self.answer = Answer::Definitions(columns.into());
                false
            }
            (Answer::Definitions(left), Some(_)) => {
                *left -= 1;
                if *left == 0 {
                    self.answer = match self.agreed & capability::DEPRECATE_EOF {
                        0 => Answer::EndOfDefinitions,
                        _ => Answer::Rows,
                    };
                }
                false
            }
            (Answer::EndOfDefinitions, Some(0xfe)) => {
                self.answer = Answer::Rows;
                false
            }
            (Answer::Rows, Some(0xfe)) => true,
            (Answer::Rows, Some(_)) => {
                self.answered(&text);
                false
            }
            _ => {
                self.wrong(&format!("is sent {text:?}"));
                return Err(Stop::Vanish);
            }
        };
        if over {
            self.due -= 1;
            self.answer = Answer::Begins;
            self.next = 1;
        }
        Ok(())
    }

    async fn packet(&mut self) -> Result<Packet, Stop> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(packet) = self.lane.take() {
                let text = String::from_utf8_lossy(&packet.body);
                if packet.body.first() == Some(&0xff) {
                    return Err(Stop::Over(code(&text)));
                }
                return Ok(packet);
            }
            match tokio::time::timeout_at(deadline, self.turn()).await {
                Ok(moved) => moved?,
                Err(_) => {
                    self.wrong("waits for ever to be let in");
                    return Err(Stop::Vanish);
                }
            }
        }
    }

    async fn log_in(&mut self) -> Result<(), Stop> {
        let greeting = self.packet().await?.body;
        let version = greeting[1..].split(|byte| *byte == 0).next().unwrap();
        let rest = &greeting[version.len() + 2..];
        let nonce = [&rest[4..12], &rest[31..43]].concat();
        let who = self.player.who.clone();
        let (lies, password) = self.password(20);
        let mut body = self.agreed.to_le_bytes().to_vec();
        body.extend_from_slice(&(16u32 << 20).to_le_bytes());
        body.push(45);
        body.extend_from_slice(&[0; 23]);
        body.extend_from_slice(format!("{}+{}\0", who.user, who.level).as_bytes());
        body.push(32);
        body.extend_from_slice(&answer_caching_sha2(&password, &nonce));
        body.extend_from_slice(format!("{DATABASE}\0caching_sha2_password\0").as_bytes());
        self.lane.number = 1;
        self.lane.say(&body);
        self.player.witness.asks(self.player.number);
        if self.player.dice.once_in(20) {
            // Begins, and is seen no more.
            let some = self.player.dice.below(body.len() as u64) as usize;
            self.lane.out.truncate(some);
            self.send().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(Stop::Vanish);
        }
        self.be_let_in(lies).await
    }

    /// What it proves itself with: a guess, once in so many times.
    fn password(&mut self, lies_once_in: u64) -> (bool, String) {
        let lies = self.player.dice.once_in(lies_once_in);
        let password = match lies {
            true => "guessed".to_owned(),
            false => secret(&self.player.who).password().to_owned(),
        };
        (lies, password)
    }

    /// What comes behind a proof.
    async fn be_let_in(&mut self, lies: bool) -> Result<(), Stop> {
        loop {
            let packet = match self.packet().await {
                Err(Stop::Over(code)) if lies => {
                    if !matches!(code.as_deref(), None | Some("TG001")) {
                        self.wrong(&format!("is told {code:?} for a wrong proof"));
                    }
                    return Err(Stop::Vanish);
                }
                other => other?,
            };
            match packet.body.first() {
                Some(0) => break,
                // The proof fits.
                Some(1) => {}
                other => self.wrong(&format!("is sent {other:?} in its login")),
            }
        }
        if lies {
            self.wrong("is let in with a wrong proof");
            return Err(Stop::Vanish);
        }
        self.player.witness.entered(self.player.number);
        Ok(())
    }

    /// `COM_CHANGE_USER`: to somebody who may come in, or may not, at that moment or any more; from a transaction, or
    /// with answers on their way. From the moment it asks its old self is at nothing any more.
    async fn change_user(&mut self) -> Result<(), Stop> {
        let ahead = self.player.dice.once_in(15);
        if !ahead && self.player.dice.once_in(3) {
            let text = self.statement();
            self.query(&text);
        }
        let who = Who {
            user: (*pick(&mut self.player.dice, &USERS)).to_owned(),
            level: pick::<&str>(&mut self.player.dice, &LEVELS),
            credential: 0,
        };
        let mut body = format!("\x11{}+{}\0", who.user, who.level).into_bytes();
        // The proof of a nonce that is used up, as some clients have it, or nothing.
        let stale = if self.player.dice.once_in(2) { vec![7; 32] } else { Vec::new() };
        body.push(stale.len() as u8);
        body.extend_from_slice(&stale);
        body.extend_from_slice(format!("{DATABASE}\0\x2d\0caching_sha2_password\0").as_bytes());
        self.lane.number = 0;
        self.lane.say(&body);
        let old = self.player.number;
        self.player.witness.with(old, |known| known.left = Some(tokio::time::Instant::now()));
        if ahead {
            return self.talk_ahead(who).await;
        }
        if self.player.dice.once_in(15) {
            self.send().await;
            return Err(Stop::Vanish);
        }
        self.settle().await?;
        // Whatever comes ahead of this is for who it was.
        let switch = self.packet().await?;
        let nonce = match switch.body.strip_prefix(b"\xfecaching_sha2_password\0") {
            Some(nonce) if switch.number == 1 && nonce.len() == 21 => nonce[..20].to_vec(),
            _ => {
                self.wrong(&format!("is sent {:?} when it logs in again", switch.body));
                return Err(Stop::Vanish);
            }
        };
        self.player.who = who.clone();
        self.player.number = self.player.witness.turns_into(old, who);
        self.player.witness.with(self.player.number, |known| known.returned = true);
        // While it thinks, what it may do can end, or begin.
        let time = self.player.dice.millis(0, 3_000);
        if self.player.dice.once_in(2) {
            tokio::time::sleep(time).await;
        }
        let (lies, password) = self.password(12);
        self.lane.number = 2;
        self.lane.say(&answer_caching_sha2(&password, &nonce));
        let end = self.be_let_in(lies).await;
        if end.is_err() && self.player.witness.is_calm() {
            // Who is not let in is out.
            let closed = async { while self.turn().await.is_ok() {} };
            if tokio::time::timeout(PATIENCE, closed).await.is_err() || !self.lane.input.is_empty() {
                self.wrong("is not let in, and not let go");
            }
        }
        end
    }

    /// A statement where a proof is due: nothing of it may arrive.
    async fn talk_ahead(&mut self, who: Who) -> Result<(), Stop> {
        self.player.number = self.player.witness.turns_into(self.player.number, who.clone());
        self.player.who = who;
        let text = self.statement();
        self.query(&text);
        self.due = 0;
        while let Ok(packet) = self.packet().await {
            if packet.body.first() != Some(&0xfe) {
                self.wrong(&format!("is sent {:?} although it talked ahead", packet.body));
            }
        }
        Err(Stop::Vanish)
    }

    fn tag(&self) -> Tag {
        self.player.witness.next_tag(self.player.number)
    }

    fn query(&mut self, text: &str) {
        self.lane.number = 0;
        self.lane.say(&[&[3], text.as_bytes()].concat());
        self.due += 1;
    }

    async fn operate(&mut self) -> Result<(), Stop> {
        match self.player.dice.below(25) {
            0..8 => {
                let text = self.statement();
                self.query(&text);
                self.settle().await
            }
            8..12 => {
                // Several commands before any answer is read.
                for _ in 0..self.player.dice.range(1, 6) {
                    let text = self.statement();
                    self.query(&text);
                }
                self.settle().await
            }
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
            15 | 16 => {
                let tag = self.tag();
                let seconds = *pick(&mut self.player.dice, &[0.1, 2.0, 25.0]);
                self.query(&format!("SELECT '{tag}', SLEEP({seconds})"));
                let time = self.player.dice.millis(0, 2_500);
                self.rest(time).await?;
                if self.player.dice.once_in(5) {
                    return Err(Stop::Vanish);
                }
                self.settle().await
            }
            17 | 18 => {
                // Half of a command, and the rest later.
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
            19 => {
                for word in ["BEGIN", "SELECT", "COMMIT"] {
                    let tag = self.tag();
                    self.query(&match word {
                        "SELECT" => format!("SELECT '{tag}'"),
                        word => format!("{word} /* {tag} */"),
                    });
                    self.settle().await?;
                }
                Ok(())
            }
            20 => self.rest(Duration::from_secs(7)).await,
            22.. => self.change_user().await,
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
        format!("SELECT '{tag}', seq FROM seq_1_to_{} ", self.player.dice.range(1, most))
    }

    /// Some statement.
    fn statement(&mut self) -> String {
        let roll = self.player.dice.below(20);
        if roll == 0 {
            return self.rows();
        }
        let tag = self.tag();
        match roll {
            1 => format!("NONSENSE '{tag}'"),
            2 => format!("SELECT '{tag}', SLEEP({:.3})", self.player.dice.range(1, 3_000) as f64 / 1e3),
            3 => format!("BEGIN /* {tag} */"),
            4 => format!("COMMIT /* {tag} */"),
            5 | 6 => format!("ROLLBACK /* {tag} */"),
            7 => format!("SET sql_mode = '{tag}'"),
            8 => format!("SET ROLE '{tag}'"),
            9 => format!("CREATE TEMPORARY TABLE `{tag}` (i INT)"),
            10 => format!("SET @mine = '{tag}'"),
            11 => format!("SELECT GET_LOCK('{tag}', 1)"),
            12 if self.player.dice.once_in(3) => format!("SET profiling = 1 /* {tag} */"),
            _ => format!("SELECT '{tag}'"),
        }
    }
}

/// The code of ours in an error.
fn code(text: &str) -> Option<String> {
    let at = text.find("TG0")?;
    text.get(at..at + 5).map(str::to_owned)
}

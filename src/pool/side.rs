//! Connections on the side, over which what runs on the pool's connections is stopped, and they are ended.
//!
//! When hundreds of sessions are cut at once, a login for each would come at the very moment at which the server is
//! to stop what they run. A few connections do it for all, one order after the other, and stay for some seconds. What
//! one order can end with it goes with it.
//!
//! An order names a connection by its number at the server, and is given by the session that has that connection.
//! It is carried out by a task of its own: who gives it may go away, which must leave no connection with half an
//! answer in it. An order that nobody waits for any more, and that has not been said yet, is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::connection::{Exchange, is_quiet, part, run_script};
use super::pool::Pool;
use crate::credential::Secret;
use crate::model::limits;
use crate::protocol::session::{Interruption, Purpose, Report, Termination, Upkeep, Wire};
use crate::tls::Stream;

/// What is done over them.
#[derive(Debug)]
pub(super) enum Order {
    /// Where the protocol needs a login for it ([`Wire::stop`]).
    Stop(Interruption),
    /// Stops what runs on it, where a request of its own would be one too many.
    Halt(Termination),
    End(Termination),
}

/// An order, and where its outcome is waited for.
struct Given {
    order: Order,
    hand: oneshot::Sender<Result<(), String>>,
}

/// What is said at once.
enum Work {
    Stop(Interruption),
    Halt(Vec<Termination>),
    End(Vec<Termination>),
}

/// The connections of one login.
pub(super) struct Sides<W: Wire> {
    /// How many more there may be.
    places: Semaphore,
    given: Mutex<VecDeque<Given>>,
    idle: Mutex<Vec<Side<W>>>,
}

struct Side<W: Wire> {
    stream: Stream,
    facts: W::Facts,
    home: ThreadId,
    /// Of the secret that it was made with.
    epoch: u64,
    born: Instant,
}

/// What came of saying an order on a connection that stands.
enum Said {
    /// The server answered, and the connection is as it was. With those that it ends.
    Done(Result<Vec<Termination>, String>),
    /// Nothing more is to be said there.
    Over(String),
    /// It broke. Whether the server has heard the order is not known.
    Broke(String),
}

impl<W: Wire> Sides<W> {
    pub fn new() -> Self {
        let places = Semaphore::new(limits::SIDE_CONNECTIONS_MAX);
        Self { places, given: Mutex::default(), idle: Mutex::default() }
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<Given>> {
        self.given.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The next order that somebody waits for, with those after it that go with it; none where others took them.
    fn next(&self) -> Vec<Given> {
        let mut given = self.given();
        let mut taken: Vec<Given> = Vec::new();
        while let Some(next) = given.pop_front_if(|next| match (taken.first(), &next.order) {
            (None, _) => true,
            (Some(first), next) => first.order.goes_with(next) && taken.len() < W::TERMINATIONS_MAX,
        }) {
            if !next.hand.is_closed() {
                taken.push(next);
            }
        }
        taken
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Side<W>>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One that stands and has nothing to say, made with this secret; with any where none can be read now.
    fn take(&self, epoch: Option<u64>) -> Option<Side<W>> {
        loop {
            let mut side = self.idle().pop()?;
            let fits = epoch.is_none_or(|epoch| epoch == side.epoch);
            if fits && is_quiet(&mut side.stream) && side.move_here().is_ok() {
                return Some(side);
            }
            part::<W>(side.stream);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.idle().is_empty()
    }

    /// Closes those that have been there for a while.
    pub fn sweep(&self) {
        let mut idle = self.idle();
        let all = std::mem::take(&mut *idle).into_iter();
        let (gone, kept): (Vec<_>, _) = all.partition(|side| side.is_old());
        *idle = kept;
        drop(idle);
        gone.into_iter().for_each(|side| part::<W>(side.stream));
    }

    pub fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        idle.into_iter().for_each(|side| part::<W>(side.stream));
    }
}

impl Order {
    /// Whether both can be said at once.
    fn goes_with(&self, other: &Self) -> bool {
        matches!((self, other), (Self::End(_), Self::End(_)) | (Self::Halt(_), Self::Halt(_)))
    }

    /// Whose connection is meant, of what is said for many at once.
    fn of(&self) -> Option<&Termination> {
        match self {
            Self::Halt(of) | Self::End(of) => Some(of),
            Self::Stop(_) => None,
        }
    }
}

impl<W: Wire> Side<W> {
    /// What a name or an address leads to may be another server by now, which has numbers of its own.
    fn is_old(&self) -> bool {
        self.born.elapsed() >= limits::SIDE_CONNECTION_AGE
    }

    fn move_here(&mut self) -> std::io::Result<()> {
        let here = std::thread::current().id();
        if self.home != here {
            self.stream.move_here()?;
            self.home = here;
        }
        Ok(())
    }
}

impl<W: Wire> Pool<W> {
    /// Has this done at the server. Returns when the server has answered. Cancel safe: what has been said is waited
    /// for without the caller, what has not been is given up.
    pub(super) async fn order(self: &Arc<Self>, order: Order) -> Result<(), String> {
        let (hand, answer) = oneshot::channel();
        // Looked at once: the plan may change before its turn comes.
        let by_upkeep = order.of().is_some() && self.plan.load().upkeep.is_some();
        self.sides_of(by_upkeep).given().push_back(Given { order, hand });
        let pool = self.clone();
        tokio::spawn(async move {
            let sides = pool.sides_of(by_upkeep);
            let Ok(_place) = sides.places.acquire().await else { return };
            pool.carry_out_next(sides).await;
        });
        answer.await.unwrap_or_else(|_| Err("it was not carried out to its end".into()))
    }

    /// What waits for its turn, where others have not done it already.
    async fn carry_out_next(&self, sides: &Sides<W>) {
        let given = sides.next();
        let Some(first) = given.first() else { return };
        let work = match &first.order {
            Order::Stop(of) => Work::Stop(of.clone()),
            Order::Halt(_) => {
                Work::Halt(given.iter().filter_map(|given| given.order.of()).cloned().collect())
            }
            Order::End(_) => Work::End(given.iter().filter_map(|given| given.order.of()).cloned().collect()),
        };
        let outcome = self.carry_out(sides, &work).await;
        for given in given {
            let outcome = match (&outcome, given.order.of()) {
                (Ok(ended), Some(of)) if !ended.contains(of) => {
                    Err("there is no such connection any more".into())
                }
                (Ok(_), _) => Ok(()),
                (Err(why), _) => Err(why.clone()),
            };
            // Who gave it may have gone away.
            let _ = given.hand.send(outcome);
        }
    }

    fn sides_of(&self, upkeep: bool) -> &Sides<W> {
        if upkeep { &self.upkeep_sides } else { &self.sides }
    }

    /// Over a connection that is there, else over a new one.
    async fn carry_out(&self, sides: &Sides<W>, work: &Work) -> Result<Vec<Termination>, String> {
        let plan = self.plan.load_full();
        let reference = match work {
            Work::Halt(_) | Work::End(_) => plan.upkeep.as_ref().unwrap_or(&plan.secret),
            Work::Stop(_) => &plan.secret,
        };
        let secret = self.secrets.read(reference).map_err(|error| error.to_string());
        let mut broke = None;
        if let Some(side) = sides.take(secret.as_ref().ok().map(Secret::epoch)) {
            match self.say(sides, side, work).await {
                Said::Done(outcome) => return outcome,
                Said::Over(why) => return Err(why),
                Said::Broke(why) => broke = Some(why),
            }
        }
        let secret = secret?;
        // A login that only stops others need not be let into the database.
        let database = match work {
            Work::Halt(_) | Work::End(_) => &*self.database,
            Work::Stop(_) => "",
        };
        let login = plan.dialer.login(&*self.wire, &Upkeep::new(), (database, ""), &secret).await;
        let (stream, facts) = login.map_err(|fault| fault.to_string())?;
        let home = std::thread::current().id();
        let side = Side { stream, facts, home, epoch: secret.epoch(), born: Instant::now() };
        match (self.say(sides, side, work).await, broke) {
            (Said::Done(Ok(ended)), None) => Ok(ended),
            // The first may still be heard, and must not be by what comes after this statement.
            (Said::Done(Ok(_)), Some(why)) => Err(format!("it had to be said twice: {why}")),
            (Said::Done(Err(why)) | Said::Over(why) | Said::Broke(why), _) => Err(why),
        }
    }

    async fn say(&self, sides: &Sides<W>, mut side: Side<W>, work: &Work) -> Said {
        let upkeep = Upkeep::new();
        let script = match work {
            Work::Stop(interruption) => self.wire.stop(&upkeep, interruption, &side.facts),
            Work::Halt(terminations) => {
                Some(self.wire.script(Purpose::Halt { upkeep: &upkeep, terminations }, &side.facts))
            }
            Work::End(terminations) => {
                Some(self.wire.script(Purpose::Terminate { upkeep: &upkeep, terminations }, &side.facts))
            }
        };
        let Some(mut script) = script else {
            return Said::Over("the protocol has another way to stop a statement".into());
        };
        let timeout = self.plan.load().dialer.timeout;
        match tokio::time::timeout(timeout, run_script(&mut side.stream, &mut script)).await {
            Ok(Ok(Report::Done(findings))) => self.keep(sides, side, Ok(findings.ended)),
            Ok(Ok(Report::Unclean(what))) => self.keep(sides, side, Err(what)),
            Ok(Ok(Report::Refused(error))) => Said::Over(error.to_string()),
            Ok(Err(error @ Exchange::Io(_))) => Said::Broke(error.to_string()),
            Ok(Err(error)) => Said::Over(error.to_string()),
            Err(_) => Said::Over(Exchange::Timeout.to_string()),
        }
    }

    fn keep(&self, sides: &Sides<W>, side: Side<W>, outcome: Result<Vec<Termination>, String>) -> Said {
        match side.is_old() {
            true => part::<W>(side.stream),
            false => sides.idle().push(side),
        }
        // Also where it was retired meanwhile, after which nobody sweeps.
        if self.is_retired() {
            sides.close();
        }
        Said::Done(outcome)
    }
}

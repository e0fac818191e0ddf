//! The real engine, pool, ledger and trail of one run, over pipes in memory; and the administrator, who
//! gives and takes while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::witness::{Given, Who, Witness};
use super::{Cast, Plan};
use crate::credential::{Keys, Secret};
use crate::identity::{Ledger, clock};
use crate::model::{
    AccessLevel, Actor, AuthMethod, Change, Connector, Credential, CredentialId, Databases, EndCause, Ended,
    Grant, GrantId, Name, Parking, PoolSettings, Subject, Target, Time, TlsMode, Upstream, User, Verifiers,
    Window,
};
use crate::observe::{Metrics, Trail, TrailSettings};
use crate::pool::Pools;
use crate::protocol::session::TlsOffer;
use crate::proxy::cancel::Cancels;
use crate::proxy::door::{Caller, Drain, Entrance, SessionDoor, SessionLimits, Shared};
use crate::proxy::ids::SessionIds;
use crate::proxy::keeper::LedgerKeeper;
use crate::proxy::listener::Allowed;
use crate::proxy::node::{end_grants, follow_targets, ring_for_trail};
use crate::proxy::peer::Peer;
use crate::proxy::registry::Registry;
use crate::proxy::tally::Tally;
use crate::proxy::throttle::Throttle;
use crate::secret::Secrets;
use crate::store::Store;
use crate::tls::Stream;
use crate::tls::memory::{Dice, Pipe};

pub const TARGET: &str = "orders";
pub const DATABASE: &str = "shop";
pub const LEVELS: [&str; 2] = ["read", "read_write"];
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Credentials that each user may get, one after the other.
const CREDENTIALS: usize = 4;

struct Held {
    secret: Secret,
    verifiers: Verifiers,
}

fn keys() -> Keys {
    Keys::new(&[7; 32])
}

/// Made once: deriving them costs more than a whole run.
static CREDENTIALS_OF: LazyLock<BTreeMap<(&str, usize), Held>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for user in USERS {
        for number in 0..CREDENTIALS {
            let (secret, verifiers) = keys().issue(&user.parse().unwrap()).unwrap();
            let secret = Secret::new(user.into(), Zeroizing::new(secret.to_string()), 0);
            all.insert((user, number), Held { secret, verifiers });
        }
    }
    all
});

/// What a client of this user proves itself with.
pub fn secret(who: &Who) -> Secret {
    let user = USERS.iter().find(|user| **user == who.user).unwrap();
    CREDENTIALS_OF[&(*user, who.credential)].secret.clone()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub struct Stage<C: Cast> {
    pub witness: Arc<Witness>,
    pub door: Arc<SessionDoor<C::Wire>>,
    pub registry: Arc<Registry>,
    pub ledger: Arc<Ledger>,
    pub trail: Trail,
    pub plan: Plan,
    pub folder: tempfile::TempDir,
    entrance: Arc<Entrance>,
    _drain: watch::Sender<Drain>,
    _virtual: clock::virtually::Virtual,
}

/// The folder of an engine whose store is at its newest schema: making one costs more than a run.
static TEMPLATE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            Store::open("sqlite:tidegate.db", &path).await.unwrap().close().await;
        });
    });
    made.join().unwrap();
    folder
});

fn prepare(folder: &Path) {
    std::fs::copy(TEMPLATE.path().join("tidegate.db"), folder.join("tidegate.db")).unwrap();
    std::fs::create_dir(folder.join("secrets")).unwrap();
    for level in LEVELS {
        let path = folder.join("secrets").join(format!("{level}.json"));
        std::fs::write(&path, format!(r#"{{"username": "{level}", "password": "{}"}}"#, super::PASSWORD))
            .unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Turns of one task at one moment: more, and it does not come to rest. The longest pipeline takes far fewer.
const TURNS_MAX: u32 = 20_000;

/// False: it was dropped, since it does not come to rest.
async fn until_it_spins(work: impl Future<Output = ()>) -> bool {
    let mut work = std::pin::pin!(work);
    let (mut moment, mut turns) = (Instant::now(), 0);
    std::future::poll_fn(|cx| {
        let now = Instant::now();
        turns = if now == moment { turns + 1 } else { 0 };
        moment = now;
        match work.as_mut().poll(cx) {
            Poll::Pending if turns > TURNS_MAX => Poll::Ready(false),
            turn => turn.map(|()| true),
        }
    })
    .await
}

impl<C: Cast> Stage<C> {
    /// Inside a runtime whose time is paused.
    pub async fn build(witness: Arc<Witness>, plan: Plan) -> Arc<Self> {
        let of_thread = clock::virtually::begin(Time::now());
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let store = clock::virtually::at_once(Store::open("sqlite:tidegate.db", folder.path())).unwrap();
        let trail = Trail::open(TrailSettings {
            directory: folder.path().join("audit"),
            sync: Duration::from_millis(20),
            lag_bytes_max: 64 << 20,
            segment_bytes: 2 << 20,
            shards: 1,
            continue_on_failure: false,
        })
        .unwrap();
        let keys = Arc::new(keys());
        let opened = Ledger::open(store, trail.clone(), keys);
        let ledger = clock::virtually::at_once(opened).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Arc::new(Registry::default());
        let (drain, draining) = watch::channel(Drain::No);
        // Nobody takes the rows: the trail has the same facts.
        let (history, _) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            ledger: ledger.clone(),
            trail: trail.clone(),
            metrics: metrics.clone(),
            registry: registry.clone(),
            cancels: Cancels::new(registry.clone()).unwrap(),
            throttle: Throttle::default(),
            refusals: Tally::default(),
            limits: ArcSwap::from_pointee(SessionLimits {
                login: Duration::from_secs(10),
                idle: plan.idle,
                session: plan.session,
                park: plan.park,
                notice: plan.notice,
            }),
            drain: draining,
            history,
            ids: SessionIds::new().unwrap(),
        });
        let keeper = Arc::new(LedgerKeeper { ledger: ledger.clone(), trail: trail.clone() });
        let secrets = Arc::new(Secrets::new(folder.path().join("secrets")));
        let wire = Arc::new(C::wire());
        let base = folder.path().to_owned();
        let pools = Arc::new(Pools::new(wire.clone(), secrets, keeper, metrics, base));
        let door = Arc::new(SessionDoor { wire, pools: pools.clone(), shared });
        let entrance = Entrance {
            name: "simulated".into(),
            target: Some(name(TARGET)),
            tls: TlsOffer::Unavailable,
            certificate: None,
            server_name_suffix: None,
            certificate_required: false,
            server_version: None,
            takes_native: false,
            proxy_from: Vec::new(),
        };
        tokio::spawn(end_grants(ledger.clone()));
        tokio::spawn(ring_for_trail(ledger.clone(), trail.failed()));
        tokio::spawn(follow_targets(ledger.clone(), vec![door.clone()]));
        tokio::spawn(pools.maintain());
        let stage = Arc::new(Self {
            witness,
            door,
            registry,
            ledger,
            trail,
            plan,
            folder,
            entrance: Arc::new(entrance),
            _drain: drain,
            _virtual: of_thread,
        });
        stage.change(vec![stage.target()]);
        stage
    }

    /// Serves a client's connection to its end.
    pub async fn serve(self: Arc<Self>, pipe: Pipe, peer: SocketAddr) {
        let session = self.door.shared.ids.next();
        self.witness.tell(format_args!("{peer} is connected"));
        let stream = Stream::Memory(Box::new(pipe));
        let caller = Caller { stream, peer: Peer::tcp(peer), input: BytesMut::new() };
        let served = self.door.clone().session(session, caller, self.entrance.clone(), Allowed::unlimited());
        if !until_it_spins(served).await {
            self.witness.wrong(format_args!("the session of {peer} turns without end"));
        }
        self.witness.tell(format_args!("{peer} has been served"));
    }

    fn target(&self) -> Change {
        let connector = |level: &str| {
            let secret = format!("file:{level}.json");
            (level.parse::<AccessLevel>().unwrap(), Connector { secret, baseline: None, suspended: None })
        };
        let target = Target {
            name: name(TARGET),
            protocol: <C::Wire as crate::protocol::session::Wire>::NAME.into(),
            address: super::ADDRESS.into(),
            database: Some(DATABASE.into()),
            tls: TlsMode::Disable,
            tls_ca: None,
            // The simulated server may let connectors in without a proof.
            upstream: Upstream {
                require_auth: Some(AuthMethod::ALL.map(|(_, method)| method).into()),
                ..Upstream::default()
            },
            remembered: Default::default(),
            details: String::new(),
            owners: Default::default(),
            connectors: LEVELS.map(connector).into(),
            pool: PoolSettings {
                size_max: self.plan.size_max,
                warm_min: self.plan.warm_min,
                wait_seconds_max: self.plan.wait_seconds,
                ..PoolSettings::default()
            },
            accept_extensions: Default::default(),
            park: Parking::Proven,
            park_accepts: Default::default(),
            bodies: Default::default(),
            suspended: None,
        };
        Change::PutTarget { target: Box::new(target) }
    }

    fn change(&self, changes: Vec<Change>) {
        let made = self.ledger.change(&Actor::Proxy, "simulated", None, |_| Ok(changes));
        // Nobody else is in the middle of a change: all of them are made at once.
        made.now_or_never().unwrap().unwrap();
        self.witness.see().authority.moments.push(Instant::now());
    }

    // -- the administrator

    pub fn add_user(&self, user: &str) {
        self.change(vec![Change::PutUser { user: User { name: name(user), groups: Default::default() } }]);
    }

    /// Gives the user their credential of this number.
    pub fn issue(&self, user: &'static str, number: usize, dice: &mut Dice) {
        let now = clock::wall();
        let end = now.checked_add(Duration::from_secs(3_600)).unwrap();
        let credential = Credential {
            id: CredentialId::from_u64(dice.roll()),
            user: name(user),
            window: Window { start: now, end },
            verifiers: CREDENTIALS_OF[&(user, number)].verifiers.clone(),
            created_by: "simulation".into(),
            ended: None,
        };
        self.change(vec![Change::AddCredential { credential: Box::new(credential) }]);
        let mut seen = self.witness.see();
        seen.authority.credentials.insert((user.to_owned(), number), (Instant::now(), None));
    }

    /// Ends all credentials of the user.
    pub fn revoke_credentials(&self, user: &str) {
        let ended = Ended { at: clock::wall(), cause: EndCause::Revoked, reason: None };
        let book = self.ledger.book();
        let live = book.credentials(user, clock::wall());
        let changes =
            live.iter().map(|held| Change::EndCredential { id: held.id, ended: ended.clone() }).collect();
        self.change(changes);
        self.witness.tell(format_args!("credentials of {user} are revoked"));
        self.end_credentials(user, "TG005");
    }

    fn end_credentials(&self, user: &str, code: &'static str) {
        let mut seen = self.witness.see();
        let now = Instant::now();
        for ((held_by, _), (_, until)) in &mut seen.authority.credentials {
            if held_by == user {
                until.get_or_insert(now);
            }
        }
        seen.authority.ends.push((Some(user.to_owned()), now, code));
    }

    /// Removes the user, which ends their credentials, grants and sessions.
    pub fn remove_user(&self, user: &str) {
        self.change(vec![Change::RemoveUser { name: name(user) }]);
        self.witness.tell(format_args!("{user} is removed"));
        for given in self.witness.see().authority.grants.iter_mut().filter(|given| given.user == user) {
            given.ended.get_or_insert(Instant::now());
        }
        self.end_credentials(user, "TG006");
        self.end_credentials(user, "TG005");
    }

    pub fn grant(&self, user: &str, level: &'static str, seconds: u64, dice: &mut Dice) {
        let now = clock::wall();
        let window = Window { start: now, end: now.checked_add(Duration::from_secs(seconds)).unwrap() };
        let grant = Grant {
            id: GrantId::from_u64(dice.roll()),
            name: None,
            subject: Subject::User(name(user)),
            target: name(TARGET),
            level: level.parse::<AccessLevel>().unwrap(),
            databases: Databases::Default,
            window,
            cidrs: Vec::new(),
            sessions_max: None,
            reason: None,
            created_at: now,
            created_by: "simulation".into(),
            ended: None,
        };
        let id = grant.id;
        self.change(vec![Change::PutGrant { grant: Box::new(grant) }]);
        self.witness.tell(format_args!("{user} has {level} for {seconds} s"));
        let (from, until) = (Instant::now(), Instant::now() + Duration::from_secs(seconds));
        let mut seen = self.witness.see();
        seen.authority.grants.push(Given { id, user: user.to_owned(), level, from, until, ended: None });
        seen.authority.ends.push((Some(user.to_owned()), until, "TG003"));
        seen.authority.moments.push(until);
    }

    /// Revokes one open grant of the user.
    pub fn revoke(&self, user: &str) {
        let now = Instant::now();
        let open = {
            let mut seen = self.witness.see();
            let mut grants = seen.authority.grants.iter_mut();
            grants.find(|given| given.user == user && given.ended.is_none() && given.until > now).map(
                |given| {
                    given.ended = Some(now);
                    given.id
                },
            )
        };
        let Some(id) = open else { return };
        let ended = Ended { at: clock::wall(), cause: EndCause::Revoked, reason: None };
        self.change(vec![Change::EndGrant { id, ended }]);
        self.witness.tell(format_args!("a grant of {user} is revoked"));
        self.witness.see().authority.ends.push((Some(user.to_owned()), now, "TG004"));
    }

    pub fn suspend(&self) {
        self.change(vec![Change::SuspendTarget { name: name(TARGET), reason: "a rest".into() }]);
        self.witness.tell("the target is suspended");
        let mut seen = self.witness.see();
        seen.authority.suspended.push((Instant::now(), None));
        seen.authority.ends.push((None, Instant::now(), "TG007"));
    }

    pub fn resume(&self) {
        self.change(vec![Change::ResumeTarget { name: name(TARGET) }]);
        self.witness.tell("the target is resumed");
        if let Some((_, until)) = self.witness.see().authority.suspended.last_mut() {
            *until = Some(Instant::now());
        }
    }

    /// Ends the session of one client, if it has one.
    pub fn kill(&self, peer: SocketAddr, client: u32) {
        let peer = peer.to_string();
        let Some(info) = self.registry.list().into_iter().find(|info| info.peer == peer) else { return };
        self.witness.tell(format_args!("c{client} is killed"));
        self.witness.killed(client);
        self.registry.kill(info.session);
    }
}

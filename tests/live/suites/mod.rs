//! Suites that every protocol passes, written once: nothing that one person leaves behind is met by the next
//! (`reset`), and however a right ends, its session is cut in whatever state it is (`cut`). A protocol brings
//! a [`Fixture`]: how its clients talk, what can be left behind, and which states a session can be in.

pub mod cut;
mod mysql;
mod postgres;
pub mod reset;

use crate::support::{Backend, Node, Options, Person, Told};

/// What somebody logs in with.
#[derive(Clone)]
pub struct Door {
    pub port: u16,
    /// The login name: `USER+LEVEL@TARGET`.
    pub name: String,
    pub secret: String,
}

impl Door {
    pub fn of<P: Backend>(node: &Node<P>, person: &Person, level: &str) -> Self {
        Self { port: node.port, name: format!("{}+{level}", person.name), secret: person.secret.clone() }
    }
}

/// What a session is called on both sides.
#[derive(Debug, Clone)]
pub struct Names {
    pub session: String,
    /// The server's own name of the connection; empty where it has given it back.
    pub connection: String,
}

/// What a client reads when its session ends.
#[derive(Debug, Default)]
pub struct LastWords {
    /// The error in its protocol, if that was the last thing.
    pub told: Option<Told>,
    /// How often it was told ahead that its access is about to end; `None`: this client does not say.
    pub warned: Option<u32>,
    /// The connection closed within a message.
    pub broken_off: bool,
    /// Something came that must not: words behind the last ones, a message that is none.
    pub wrong: Option<String>,
}

/// One protocol and one server.
pub trait Fixture: Sync + Sized {
    /// A client that speaks the protocol by hand, so that it may stop anywhere.
    type Client: Send;
    type Place: Backend;
    /// Whether an idle session gives its connection back.
    const PARKS: bool;
    /// How the grants of the reset suite are made otherwise.
    const GRANT: &'static [&'static str] = &[];

    /// A node whose target `shop` leads to a database of its own, with a connector at each level.
    fn node(&self, options: Options<'_>) -> Node<Self::Place>;
    /// Logs in with these start-up settings.
    fn connect(&self, door: &Door, settings: &[(&str, &str)]) -> Result<Self::Client, Told>;
    /// Asks, and gives the whole answer as text: rows, or `error` and its code, and what came unasked.
    fn ask(&self, client: &mut Self::Client, question: &str) -> String;
    fn names(&self, client: &mut Self::Client) -> Names;
    /// Has something run on its connection from now on.
    fn occupy(&self, client: &mut Self::Client);
    /// Leaves as the protocol wants it.
    fn goodbye(&self, client: Self::Client);
    /// Leaves without a word.
    fn vanish(&self, client: Self::Client);
    /// Goes on with what the client was about to do, if it was, and reads to the end of the connection.
    fn last_words(&self, client: Self::Client) -> LastWords;

    /// Runs something around the proxy, as who runs the server.
    fn operate(&self, node: &Node<Self::Place>, statements: &str);
    /// Ends the connectors' connections at the server, so that the next one is new.
    fn forget(&self, node: &Node<Self::Place>);
    fn lives(&self, node: &Node<Self::Place>, connection: &str) -> bool;
    /// What the people of the cut suite have changed for good: nothing, as they never commit.
    fn residue(&self, node: &Node<Self::Place>) -> String;

    /// The protocol's own code for a refusal (`TG004`).
    fn code(&self, refusal: &str) -> &'static str;
    fn traces(&self) -> Vec<reset::Trace<Self>>;
    fn states(&self) -> Vec<cut::State<Self>>;
}

/// The tests of both suites for each fixture: `MODULE => FIXTURE`.
macro_rules! suites {
    ($($module:ident => $fixture:expr),* $(,)?) => {$(
        mod $module {
            #[test]
            fn nothing_that_is_left_is_met_by_the_next() {
                $crate::suites::reset::run(&$fixture);
            }
            #[test]
            fn the_rest_of_a_message_is_brought_out_and_the_end_told() {
                $crate::suites::cut::run_alone(&$fixture);
            }
            crate::suites::suites!(@cut $fixture;
                an_expired_grant_cuts Expired, a_revoked_grant_cuts Revoked, a_removed_user_is_cut UserRemoved,
                who_leaves_a_group_is_cut LeftGroup, a_revoked_credential_cuts CredentialRevoked,
                a_suspended_target_cuts TargetSuspended, a_changed_network_cuts NetworkChanged,
                a_changed_level_cuts LevelChanged, a_removed_connector_cuts ConnectorRemoved,
                the_idle_limit_cuts Idle, the_session_limit_cuts TooLong, a_kill_cuts Killed, a_drain_cuts Drained,
            );
        }
    )*};
    (@cut $fixture:expr; $($name:ident $end:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            $crate::suites::cut::run(&$fixture, $crate::suites::cut::End::$end);
        }
    )*};
}
pub(crate) use suites;

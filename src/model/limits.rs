//! Every constant limit, with its reason. What an operator may want to change is a key of the node
//! file instead, and its default is here.

use std::time::Duration;

/// The contract's limit for names; PostgreSQL identifiers have the same.
pub const NAME_BYTES_MAX: usize = 63;
/// Text that `target list` and error messages show to users.
pub const DETAILS_CHARS_MAX: usize = 400;
/// Live credentials of one user: a SCRAM proof is checked against each, two HMACs apiece.
pub const CREDENTIALS_PER_USER_MAX: usize = 8;
/// What PostgreSQL itself takes as a start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// A SASL message of ours never needs more than a few hundred bytes; clients may add extensions.
pub const SASL_BYTES_MAX: usize = 4_096;
/// An upstream may ask for this many SCRAM rounds; PostgreSQL's default is 4,096. More would let a
/// server burn our CPU.
pub const SCRAM_ROUNDS_MAX: u32 = 200_000;
/// Rounds of our own verifiers. The secret has 128 random bits, so rounds add nothing but the
/// client's time; 4,096 is the least that RFC 7677 allows.
pub const SCRAM_ROUNDS: u32 = 4_096;
/// The longest message a server may send us while we log in or run a script of ours.
pub const SCRIPT_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What one worker reads at once. A relay works in pieces of what the peer sends, 8 kB for PostgreSQL.
pub const READ_BYTES: usize = 64 << 10;
/// Reads of one side stop when this much waits to be written to the other.
pub const PENDING_BYTES_MAX: usize = 256 << 10;
/// Client messages that we must see whole (statement text, bound values) are looked at up to here;
/// what is longer is passed on in pieces once its head is in the trail.
pub const INSPECT_BYTES_MAX: usize = 64 << 10;
/// Statement text kept in one audit line; the length of the whole is always there.
pub const AUDIT_TEXT_BYTES_MAX: usize = 32 << 10;
/// Bound values kept in one audit line, all together.
pub const AUDIT_PARAMETERS_BYTES_MAX: usize = 16 << 10;
/// Prepared statements of one session that we remember the text of, in bytes; past it the oldest
/// text is dropped and the audit line says so.
pub const PREPARED_TEXT_BYTES_MAX: usize = 4 << 20;
/// Requests that a client may have in flight (pipelining) before we stop reading from it.
pub const OUTSTANDING_MAX: usize = 65_536;
/// `application_name` in PostgreSQL: NAMEDATALEN - 1.
pub const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// How long the rest of a half-sent message may take when a session is cut.
pub const CUT_FLUSH: Duration = Duration::from_millis(250);
/// How long we try to stop a statement at the server after a cut.
pub const INTERRUPT_WAIT: Duration = Duration::from_secs(5);
/// The end of grants is looked at this often, against wall time.
pub const GRANT_TICK: Duration = Duration::from_millis(200);
/// Start-up settings of a client that we carry (`application_name`, `options`, …).
pub const SETTINGS_MAX: usize = 64;
/// A database name longer than this is cut by PostgreSQL, so it would name another than was granted.
pub const DATABASE_BYTES_MAX: usize = 63;
/// A CancelRequest's key: 4 bytes in protocol 3.0, up to this in 3.2.
pub const CANCEL_KEY_BYTES_MAX: usize = 256;
/// Messages that a server may send in one login or one script of ours: some 15 settings and a few
/// notices at login, a row per finding in a check.
pub const SCRIPT_MESSAGES_MAX: usize = 10_000;
/// Messages that a server may send before it is ready.
pub const LOGIN_MESSAGES_MAX: usize = 1_000;
/// All that a server may send in one login or one script of ours, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 4 << 20;
/// A server's error message as we keep it for logs and answers of the admin API.
pub const SERVER_MESSAGE_CHARS_MAX: usize = 300;
/// The least an upstream may ask for: RFC 7677's minimum and PostgreSQL's default. With fewer, whoever
/// stands in for the server gets a proof from which the connector's password is cheaply guessed.
pub const SCRAM_ROUNDS_MIN: u32 = 4_096;
/// Our part of a SCRAM nonce, in random bytes: as many as PostgreSQL uses.
pub const SCRAM_NONCE_BYTES: usize = 18;
/// Rounds of our own verifiers for MariaDB's parsec: the least that its format can say. As with
/// SCRAM, a secret of 130 random bits gains nothing from more.
pub const PARSEC_ROUNDS: u32 = 1_024;
/// Prepared statements (and as many portals) that one session may name; the server would need a
/// gigabyte for so many.
pub const PREPARED_MAX: usize = 65_536;
/// Buffers of closed statements that are kept for the next ones: a pipeline's usual depth.
pub const RECYCLED_BUFFERS_MAX: usize = 16;
/// How large a buffer may be to be kept for the next statement; most statements are shorter.
pub const RECYCLED_BYTES_MAX: usize = 4 << 10;
/// PostgreSQL's own limit for the messages that carry only names and numbers (`PQ_SMALL_MESSAGE_LIMIT`).
pub const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;
/// Where an ErrorResponse must have named its severity and SQLSTATE: they come before any free text
/// but one translated word.
pub const ERROR_HEAD_BYTES_MAX: usize = 1 << 10;
/// Parameters of a server that we know the last value of, so as to tell a client what differs after
/// its session moved. PostgreSQL 18 reports 16.
pub const PARAMETERS_MAX: usize = 128;
/// How often we try to put a stamp or a setting back at a server that does not take it.
pub const PUT_BACK_TRIES_MAX: u8 = 3;
/// An outstanding queue that grew beyond this gives the memory back when it has drained.
pub const OUTSTANDING_KEPT: usize = 1_024;
/// Syncs among the data of a COPY, which the server may ignore or not. Drivers send one.
pub const COPY_SYNCS_MAX: usize = 64;

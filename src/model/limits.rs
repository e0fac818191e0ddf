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
/// Notes of one turn of a relay. One read can hold thousands of messages that each bring a long text
/// along (Executes of a prepared statement); they are committed in portions, so that no client can
/// outrun the trail's writer in one go.
pub const NOTES_BYTES_MAX: usize = 512 << 10;
/// Prepared statements of one session that we remember the text of, in bytes; past it the oldest
/// text is dropped and the audit line says so.
pub const PREPARED_TEXT_BYTES_MAX: usize = 4 << 20;
/// Requests that a client may have in flight (pipelining) before we stop reading from it.
pub const OUTSTANDING_MAX: usize = 65_536;
/// `application_name` in PostgreSQL: NAMEDATALEN - 1.
pub const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// How long the rest of a half-sent message may take when a session is cut.
pub const CUT_FLUSH: Duration = Duration::from_millis(250);
/// How long a cancel request's connection is kept open until the server has the request: as long as a new
/// connection to a busy server may take, and not so long that the client's button seems dead.
pub const CANCEL_LANDING_WAIT: Duration = Duration::from_secs(2);
/// How long we try to stop a statement at the server after a cut.
pub const INTERRUPT_WAIT: Duration = Duration::from_secs(5);
/// The end of grants is looked at this often, against wall time.
pub const GRANT_TICK: Duration = Duration::from_millis(200);
/// Start-up settings of a client that we carry (`application_name`, `options`, …).
pub const SETTINGS_MAX: usize = 64;
/// How long the rest of a message that is on its way to a client is waited for before the statement is stopped, so
/// that the server lets go of it: a server writes when its buffer is full, and what the rest of it lacks may not be
/// computed for hours. Where rows stream the rest is here before that.
pub const CUT_REST: Duration = Duration::from_millis(20);
/// Requests of one pool to stop a statement that are on their way at once, where each has a connection of its own: a
/// server makes a process for each, and where hundreds are cut at once those would take the time in which the clients
/// are to be told. Where more are cut, their statements are stopped many at once over one on the side: [`CROWD_PAUSE`].
pub const INTERRUPTS_MAX: usize = 16;
/// A crowd of clients has been told that its access has ended when nobody was told for this long: what runs for them is
/// stopped then.
pub const CROWD_PAUSE: Duration = Duration::from_millis(40);
/// How long a crowd is waited for at most, and then once more until what runs for it is stopped.
pub const CROWD_WAIT: Duration = Duration::from_millis(300);
/// Connections of one pool that only stop statements and end others; each does hundreds in a second.
pub const SIDE_CONNECTIONS_MAX: usize = 2;
/// Connections that are ended by one order, where the protocol can: what the server looks up for one it has looked up
/// for all.
pub const TERMINATIONS_MAX: usize = 256;
/// How long such a connection is used and stays: the cuts of one crowd come within a second or two.
pub const SIDE_CONNECTION_AGE: Duration = Duration::from_secs(5);
/// A reset waits for the server's own clean-up (dropping temporary tables); a server that takes longer
/// loses the connection instead.
pub const RESET_WAIT: Duration = Duration::from_secs(10);
/// A server that is not silent this long after a request to stop a statement is told to end the
/// connection, and told again after as long.
pub const INTERRUPT_AGAIN: Duration = Duration::from_millis(200);
/// Rows of the session history that wait to be stored; the trail is the truth, so past it rows are
/// dropped.
pub const HISTORY_QUEUE_MAX: usize = 10_000;
/// The least an upstream may ask for: RFC 7677's minimum and PostgreSQL's default. With fewer, whoever
/// stands in for the server gets a proof from which the connector's password is cheaply guessed.
pub const SCRAM_ROUNDS_MIN: u32 = 4_096;
/// Our part of a SCRAM nonce, in random bytes: as many as PostgreSQL uses.
pub const SCRAM_NONCE_BYTES: usize = 18;
/// Rounds of our own verifiers for MariaDB's parsec: the least that its format can say. As with
/// SCRAM, a secret of 130 random bits gains nothing from more.
pub const PARSEC_ROUNDS: u32 = 1_024;
/// A database name longer than this is cut by PostgreSQL, so it would name another than was granted.
pub const DATABASE_BYTES_MAX: usize = 63;
/// A database, table or user of MySQL has a name of up to 64 characters (users 32); MariaDB's users 128.
pub const MYSQL_NAME_CHARS_MAX: usize = 64;
/// How often a server may switch to another method of authentication; real ones do it once.
pub const AUTH_SWITCHES_MAX: u8 = 3;
/// Packets that a MySQL or MariaDB server may send in one login: a greeting, and a few for each method.
pub const MYSQL_LOGIN_PACKETS_MAX: usize = 16;
/// Rounds of MariaDB's parsec, as the power of two of their 1,024s: what its own client computes at most.
pub const PARSEC_POWER_MAX: u8 = 3;
/// The size of an RSA key that a password is sealed under, in bits: MySQL makes 2,048; a larger one than this
/// only costs time.
pub const RSA_BITS_MAX: usize = 8_192;
/// The version that a MySQL or MariaDB server says in its greeting, with what packagers append to it: some 60
/// bytes. It is repeated to clients.
pub const SERVER_VERSION_BYTES_MAX: usize = 255;
/// A CancelRequest's key: 4 bytes in protocol 3.0, up to this in 3.2.
pub const CANCEL_KEY_BYTES_MAX: usize = 256;
/// The highest process id that an operating system of a server gives out (Linux: `PID_MAX_LIMIT`, 2^22,
/// others are lower). Process ids that we invent are above it.
pub const PROCESS_ID_MAX: u32 = 1 << 22;
/// Messages that a server may send in one login or one script of ours: some 15 settings and a few
/// notices at login, a row per finding in a check.
pub const SCRIPT_MESSAGES_MAX: usize = 10_000;
/// Messages that a server may send before it is ready.
pub const LOGIN_MESSAGES_MAX: usize = 1_000;
/// All that a server may send in one login or one script of ours, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 4 << 20;
/// A server's error message as we keep it for logs and answers of the admin API.
pub const SERVER_MESSAGE_CHARS_MAX: usize = 300;
/// Connections to the admin socket, and to the admin address, at once: each is one task, a few
/// buffers, and for `audit tail -f` one reader of files.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The body of an admin request. The largest real one but `apply` is a grant with its lists.
pub const ADMIN_BODY_BYTES_MAX: usize = 1 << 20;
/// The body of `apply`: some 30,000 grants at 250 bytes each.
pub const ADMIN_APPLY_BYTES_MAX: usize = 8 << 20;
/// How long the head of an admin request may take to arrive.
pub const ADMIN_HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long an admin request may take until its answer begins; `target check` connects at each level.
pub const ADMIN_REQUEST_WAIT: Duration = Duration::from_secs(60);
/// How long one connection to the admin address (metrics, health) may live, so that readers who do
/// not read cannot hold all places.
pub const ADMIN_PUBLIC_CONNECTION: Duration = Duration::from_secs(300);
/// Databases or networks that one grant lists; each is compared at every login.
pub const GRANT_LIST_MAX: usize = 100;
/// The longest grant or credential: longer than a year is not time-boxed any more.
pub const ACCESS_SECONDS_MAX: i64 = 366 * 86_400;
/// Sessions of the history that one answer lists.
pub const SESSION_HISTORY_MAX: u32 = 1_000;
/// Audit lines that a person is shown who names no limit.
pub const AUDIT_LINES_SHOWN: usize = 1_000;
/// Audit lines travel to a reader in pieces of about this size.
pub const ADMIN_STREAM_BYTES: usize = 64 << 10;
/// Pieces on their way to a reader who does not keep up; reading files waits there.
pub const ADMIN_STREAM_PENDING_MAX: usize = 4;
/// A node file or resource file. A hundred thousand grants fit.
pub const CONFIG_FILE_BYTES_MAX: u64 = 16 << 20;
/// A connector's secret: a name and a password, with room for a certificate and its key.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Databases have names of up to 128 characters (SQL Server); PostgreSQL takes 63, MySQL 64.
pub const DATABASE_CHARS_MAX: usize = 128;
/// Why somebody was let in, or why that ended: shown in lists and to the person who is cut.
pub const REASON_CHARS_MAX: usize = 400;
/// Ended grants and credentials that a snapshot still has, for lists and for `explain`. The store
/// keeps all of them.
pub const ENDED_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Rows of the history of sessions, some 30 MB; the oldest go first. The audit trail has all of them.
pub const SESSION_ROWS_MAX: u32 = 100_000;
/// The history is cut to size once in so many sessions: the cut reads the whole index.
pub const SESSION_ROWS_SWEEP: u32 = 1_000;
/// Readers of the store: lists and look-ups of administrators, never a login.
pub const STORE_READERS: u32 = 4;
/// How long one statement of the store waits for another process's lock (`sqlite3`, a backup tool).
pub const STORE_BUSY: Duration = Duration::from_secs(5);
/// The smallest journal segment: the largest record must fit, and a smaller one would be full in
/// milliseconds under load.
pub const AUDIT_SEGMENT_BYTES_MIN: usize = 1 << 20;
/// One record of the journal: fits the smallest segment. The notes of one read are split into several
/// records long before; one fact that is larger is refused.
pub const AUDIT_RECORD_BYTES_MAX: usize = AUDIT_SEGMENT_BYTES_MIN - 4_096;
/// Notes of one read that are longer than this become several records, so that the end of a segment
/// that no record fits into any more stays small.
pub const AUDIT_NOTES_BYTES_MAX: usize = 128 << 10;
/// More shards than this only make the merge slower; there are never that many workers.
pub const AUDIT_SHARDS_MAX: usize = 64;
/// An audit file that has reached this is followed by a new one: still quick to verify and to ship.
pub const AUDIT_FILE_BYTES_MAX: u64 = 256 << 20;
/// The longest audit line that is read back. The longest that is written is a record in which every
/// byte becomes a six byte escape.
pub const AUDIT_LINE_BYTES_MAX: usize = 16 << 20;
/// A backlog that passes this wakes the writer before its time.
pub const AUDIT_WAKE_BYTES: u64 = 1 << 20;
/// Formatted lines are handed to the file in pieces of this size.
pub const AUDIT_WRITE_BYTES: usize = 1 << 20;
/// After a failed write the writer tries again this soon, then half as often each time, …
pub const AUDIT_RETRY_MIN: Duration = Duration::from_millis(100);
/// … down to this: somebody who has made room on the disk waits no longer.
pub const AUDIT_RETRY_MAX: Duration = Duration::from_secs(5);
/// The audit files are read backwards in blocks of this size.
pub const AUDIT_READ_BYTES: usize = 64 << 10;
/// Lines that a search which shows the oldest of the newest first remembers (16 bytes each), and the
/// most that `tail` shows of the past.
pub const AUDIT_SEARCH_LINES_MAX: usize = 1 << 20;
/// Lines that a follower has read and nobody has taken yet, in bytes.
pub const AUDIT_FOLLOW_BYTES_MAX: usize = 1 << 20;
/// A follower looks for new lines this often.
pub const AUDIT_FOLLOW_TICK: Duration = Duration::from_millis(200);
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
/// Cancel requests of one session that are on their way to its target at once. One that is not there
/// yet stops what runs when it lands, so more of them stop nothing more; each is a connection there.
pub const INTERRUPTIONS_MAX: usize = 4;
/// Connections to the admin socket of users who may not use it, at once: where uids are listed every
/// local user reaches it, and must not take an administrator's place.
pub const ADMIN_STRANGERS_MAX: usize = 8;
/// How long such a user may take to ask and to be refused.
pub const ADMIN_STRANGER_WAIT: Duration = Duration::from_secs(2);
/// Rows of the session history that are stored together.
pub const HISTORY_BATCH_MAX: usize = 1_000;
/// How long the history waits for more rows before it writes again: a crowd of short sessions then
/// costs ten writes a second.
pub const HISTORY_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the history to be stored.
pub const HISTORY_FINISH: Duration = Duration::from_secs(2);
/// How long connections may come back to a pool by a glance, before one of them is looked at
/// thoroughly: what the role's own settings are is then known this fresh. A connection that is made
/// is always looked at, so a changed setting reaches nobody; this is how soon the alarm comes.
pub const POOL_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest text of which a statement's verbs and tables are looked for; of a longer one only the
/// first words are named. Reading this much takes a fraction of a millisecond.
pub const LABEL_TEXT_BYTES_MAX: usize = 16 << 10;
/// The most tokens of a text that is read for its label. A chain such as `1+1+1+…` becomes a tree as deep
/// as the chain is long, and the stack of the trail's writer must hold a walk down to its end.
pub const LABEL_TOKENS_MAX: usize = 2_048;
/// How deep parentheses, subqueries and the like may be nested in a text that is read for its label:
/// the reading of nested things is recursive, and of some it takes twice as long per level.
pub const LABEL_DEPTH_MAX: usize = 24;
/// The stack of the trail's writer, for the deepest tree that [`LABEL_TOKENS_MAX`] allows, several times
/// over. Only what is touched takes memory.
pub const LABEL_STACK_BYTES: usize = 64 << 20;
/// Verbs, and tables read, and tables written, and functions called, that one label names.
pub const LABEL_NAMES_MAX: usize = 32;
/// The longest name in a label: schema and table of PostgreSQL, with room for escapes.
pub const LABEL_NAME_BYTES_MAX: usize = 255;
/// Labels that are kept for the next statement of the same form, in bytes of what the lines say.
pub const LABEL_CACHE_BYTES_MAX: usize = 4 << 20;
/// One part in so many of the time of one core may go into labels that are not kept; past it statements
/// are written down unlabelled, and say so.
pub const LABEL_SHARE: u32 = 10;
/// How much of that time may be saved up, and so how long labels can hold up the trail's writer at once.
pub const LABEL_BURST: Duration = Duration::from_millis(100);
/// What a server may show of one session that gives its connection back: its settings, a few reasons, and the
/// functions that keep it. More pins.
pub const PROOF_ROWS_MAX: usize = 1_000;
/// The value of a setting that is put back on another connection; a `search_path` of 30 schemas fits.
pub const RESTORED_SETTING_BYTES_MAX: usize = 2 << 10;
/// Prepared statements that are put back on another connection; drivers keep some 256 of them. More pin.
pub const RESTORED_STATEMENTS_MAX: usize = 1_024;
/// How long the statement runs that `target check` tries to see and to stop, if nothing stops it.
pub const TRIAL: Duration = Duration::from_secs(5);
/// How often that trial looks whether the statement can be seen, every [`TRIAL_LOOK`]: a busy server takes a
/// moment to start it.
pub const TRIAL_LOOKS_MAX: u32 = 20;
pub const TRIAL_LOOK: Duration = Duration::from_millis(50);
/// A login that a target refuses is tried again this soon, then half as often each time, …
pub const LOGIN_RETRY_MIN: Duration = Duration::from_secs(5);
/// … down to this: failed logins fill a server's log and may lock the role out.
pub const LOGIN_RETRY_MAX: Duration = Duration::from_secs(300);
/// How often a connector's secret is looked at while its connections are in use: one small file.
pub const SECRET_LOOK: Duration = Duration::from_secs(5);
/// Connections of a level beyond its pool: those of `target check`, and those that end others.
pub const SPARE_CONNECTIONS: u32 = 5;
/// What is read at once of a client that logs in: its start-up message and its proof are shorter.
pub const LOGIN_READ_BYTES: usize = 1 << 10;
/// What is read at once of the answers to a script of ours: most are shorter.
pub const SCRIPT_READ_BYTES: usize = 2 << 10;
/// A start-up setting's value as the trail shows it.
pub const SHOWN_SETTING_BYTES_MAX: usize = 256;
/// The random part of a cancel key that a client of protocol 3.2 gets, as PostgreSQL 18 makes them. One of 3.0
/// gets 4 bytes, which is all that its messages hold.
pub const CANCEL_SECRET_BYTES: usize = 32;
/// The first line of PROXY protocol version 1, its end included (its specification, section 2.1).
pub const PROXY_LINE_BYTES_MAX: usize = 107;
/// What follows the fixed part of a PROXY header of version 2: addresses have 36 bytes at most, the rest are
/// additions (TLVs) that we skip. A client certificate is the largest that balancers send.
pub const PROXY_HEADER_BYTES_MAX: usize = 16 << 10;
/// How long a balancer may take to say whom it brings. It sends the header with its first packet.
pub const PROXY_HEADER_WAIT: Duration = Duration::from_secs(5);
/// Connections beyond a listener's limit that are told so at once; each costs what a login costs up to its
/// first message. Beyond these a connection is closed without a word.
pub const TURNED_AWAY_MAX: usize = 32;
/// How long a connection that is one too many may take to hear that.
pub const TURNED_AWAY_WAIT: Duration = Duration::from_secs(2);
/// Refused logins of one source network that get a line of their own in an interval; the rest is counted.
/// Enough to see what a misconfigured client or a person does wrong.
pub const REFUSALS_SHOWN_PER_SOURCE: u32 = 20;
/// The same for all sources together: some 500 kB of trail in an interval.
pub const REFUSALS_SHOWN: u32 = 1_000;
/// Sources that are counted apart; what comes from more of them is one count.
pub const REFUSAL_SOURCES_MAX: usize = 1_000;
/// Counts of refused logins are written this often.
pub const REFUSALS_INTERVAL: Duration = Duration::from_secs(60);
/// Names of a client certificate's issuer in the trail, in characters.
pub const ISSUER_CHARS_MAX: usize = 256;
/// Certificate files are looked at this often; a change is taken over without a signal.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);
/// What is read at once of a compressed packet that is taken apart.
pub const COMPRESSED_READ_BYTES: usize = 8 << 10;
/// The window that a zstd frame may ask for: a packet has at most 16 MiB, so nobody needs more.
pub const ZSTD_WINDOW_BITS_MAX: u32 = 24;
/// Parameters of one prepared statement whose values are sent ahead of it (MySQL's long data) and of which the trail
/// says how long they are. Drivers send what is larger than a packet like that, or each blob.
pub const LONG_PARAMETERS_MAX: usize = 1_024;
/// Files of a client's that one text may offer to the server, each of them in every reading that the text has.
pub const LOCAL_FILES_MAX: usize = 64;
/// Columns of what scripts of ours ask for; each takes its place in memory, whatever is in it.
pub const SCRIPT_COLUMNS_MAX: u64 = 16;
/// How long a client waits to be greeted where nothing is known of the target yet: it has said nothing, so nothing
/// tells that it is one at all, and it may wait as long for what it came for.
pub const LEARN_WAIT: Duration = Duration::from_secs(5);
/// A target that could not be heard is asked again for the next client's greeting after this: whoever connects makes
/// us ask, logged in or not.
pub const LEARN_AGAIN: Duration = Duration::from_secs(5);
/// An answer to a client that asks to stop a session which it does not have: so many it gets in a second at most.
pub const KILL_PAUSE: Duration = Duration::from_millis(20);
/// The target of an HTTP request line: what nginx and Elasticsearch take by default is 4 to 8 kB.
pub const HTTP_TARGET_BYTES_MAX: usize = 8 << 10;
/// The request line that is sent where wildcards became names: what Elasticsearch takes if it is not told otherwise
/// (`http.max_initial_line_length`).
pub const HTTP_LINE_BYTES_MAX: usize = 4 << 10;
/// Query parameters of one HTTP request; a search has some thirty that it knows.
pub const HTTP_PARAMETERS_MAX: usize = 64;
/// An `Authorization` header: a login name and a secret in base 64 are a tenth of it.
pub const HTTP_AUTHORIZATION_BYTES_MAX: usize = 2 << 10;
/// A search, or one line of a body of many, that is read for the names in it. Its values take up to some twenty times
/// as much memory while it is looked at.
pub const HTTP_QUERY_BYTES_MAX: usize = 1 << 20;
/// Indices that the lines of one body name, or that the wildcards of one request stand for.
pub const HTTP_NAMES_MAX: usize = 10_000;
/// Searches with wildcards in one body: each is kept until it is known what they stand for.
pub const HTTP_SEARCHES_MAX: usize = 10_000;
/// Different wildcards of one request: each is looked for among all names of the cluster.
pub const HTTP_WILDCARDS_MAX: usize = 256;
/// Values of one JSON text: Elasticsearch takes 65,536 terms in one query.
pub const HTTP_JSON_VALUES_MAX: usize = 200_000;
/// Objects and lists within each other in JSON that is read for names; the walk is recursive.
pub const HTTP_JSON_DEPTH_MAX: usize = 64;
/// Queries within queries of ES|QL, one in the other.
pub const HTTP_SUBQUERIES_DEPTH_MAX: usize = 8;
/// A request's head and what is buffered of a connection: nginx and Elasticsearch take less by default.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 << 10;
/// For the next request's head to come, and so for how long a connection may lie idle. Clients keep theirs for about a
/// minute.
pub const HTTP_HEAD_WAIT: Duration = Duration::from_secs(60);
/// What is kept in memory of a body that is kept whole before anything of it is sent; the rest lies in a file.
pub const HTTP_BODY_MEMORY_BYTES_MAX: usize = 256 << 10;
/// Bodies of one person in memory, those that are read for names among them.
pub const HTTP_BODIES_PERSON_BYTES_MAX: usize = 32 << 20;
/// Those of all requests of one API together.
pub const HTTP_BODIES_BYTES_MAX: usize = 256 << 20;
/// A body that is read for names when it is whole, and is in memory for as long.
pub const HTTP_BODY_BYTES_MAX: usize = 16 << 20;
/// What comes of a `_bulk` that is streamed before its grant is chosen.
pub const HTTP_BODY_STREAM_BYTES: usize = 128 << 10;
/// What is read of the file of a body at once.
pub const HTTP_BODY_READ_BYTES: usize = 64 << 10;
/// For the next piece of such a body to come.
pub const HTTP_BODY_WAIT: Duration = Duration::from_secs(30);
/// What of an answer is looked at for how much it is about; most say it in their first hundred bytes.
pub const HTTP_COUNTED_BYTES_MAX: usize = 1 << 20;
/// Actions and indices of one `_bulk` that have a count of their own in the trail, and names that those stand for: with
/// the longest names they are some ten kilobytes.
pub const HTTP_COUNTED_INDICES_MAX: usize = 64;
/// What is read of an `_msearch` before others get their turn: about a millisecond.
pub const HTTP_TURN_BYTES: usize = 64 << 10;
/// A client that sends or takes what holds a connection to a target is looked at this often, …
pub const HTTP_PACE_LOOK: Duration = Duration::from_secs(1);
/// … and has to move so much …
pub const HTTP_PACE_BYTES_MIN: u64 = 16 << 10;
/// … in as many looks at which the target waits for it (nginx has 60 s for that), …
pub const HTTP_PACE_LOOKS_MAX: u32 = 60;
/// … or in these, where others wait for a connection.
pub const HTTP_PACE_LOOKS_WANTED: u32 = 5;
/// What is read of the body of a refused request for the connection to go on; of a longer one the connection is closed.
pub const HTTP_SKIPPED_BYTES_MAX: usize = 64 << 10;
/// For a client to come to the answer while it still sends such a body.
pub const HTTP_SKIP_WAIT: Duration = Duration::from_secs(1);
/// Requests at once on one connection of HTTP/2: what clients begin with before they have been told (RFC 9113, section
/// 6.5.2, advises against less).
pub const HTTP_STREAMS_MAX: u32 = 100;
/// Streams that a client of HTTP/2 may have reset before they are looked at (CVE-2023-44487), …
pub const HTTP_RESETS_MAX: usize = 32;
/// … and requests that it may take back one after the other without waiting for the answer of one, or send malformed.
pub const HTTP_TAKEN_BACK_MAX: usize = 256;
/// What may come of one stream of HTTP/2, and of all streams of a connection, before it is read.
pub const HTTP_STREAM_WINDOW_BYTES: u32 = 64 << 10;
pub const HTTP_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// For the answer to a ping of ours on a connection of HTTP/2 that has been still.
pub const HTTP_PING_WAIT: Duration = Duration::from_secs(20);
/// Sessions of one client connection: a gateway in front may bring several people over one.
pub const HTTP_SESSIONS_MAX: usize = 16;
/// What is known of a target's aliases is asked again after this, so that a change made past the proxy counts within
/// it.
pub const HTTP_ALIASES_AGE_MAX: Duration = Duration::from_secs(1);
/// The answer to such a question: some 100,000 indices.
pub const HTTP_ALIASES_BYTES_MAX: usize = 16 << 20;
/// For the answer to a question of our own.
pub const HTTP_ASK_WAIT: Duration = Duration::from_secs(5);
/// An id that a target gives for a scroll, a point in time or an asynchronous search: it grows with the shards, some
/// hundred bytes each.
pub const HTTP_ID_BYTES_MAX: usize = 64 << 10;
/// Such ids that are open under one grant; Elasticsearch itself allows 300 to 500 on a node.
pub const HTTP_CONTEXTS_MAX: usize = 100;
/// How long a target is thought to keep what it was asked to keep at most: asynchronous searches are kept so long if
/// nothing else is said.
pub const HTTP_CONTEXT_KEPT_MAX: Duration = Duration::from_secs(5 * 86_400);
/// Requests whose client or grant has gone and that are to be stopped at one target: a pool has less connections, and
/// only so many can come at once.
pub const HTTP_STOPS_MAX: usize = 1_000;
/// What is to be stopped is looked for again after this at first, then after twice as long, …
pub const HTTP_STOP_PAUSE: Duration = Duration::from_millis(50);
/// … and so on up to this, …
pub const HTTP_STOP_PAUSE_MAX: Duration = Duration::from_secs(1);
/// … for so long where it has not turned up: a busy target may begin with it late, …
pub const HTTP_STOP_LOOK: Duration = Duration::from_secs(5);
/// … and for so long where it does not end, or the target does not answer.
pub const HTTP_STOP_WAIT: Duration = Duration::from_secs(60);
/// For what is to be stopped when the node ends.
pub const HTTP_STOP_FINISH: Duration = Duration::from_secs(2);
/// Between two looks at a target that does not say what was left behind there, the first time and at most.
pub const HTTP_ORPHANS_PAUSE: Duration = Duration::from_secs(1);
pub const HTTP_ORPHANS_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Idle connections to targets are looked through this often.
pub const HTTP_SWEEP: Duration = Duration::from_secs(1);
/// The path of a refused request in the trail.
pub const HTTP_SHOWN_CHARS_MAX: usize = 200;
/// An answer that is read whole because only a part of it is shown: the list of some 10,000 queues. It is in memory
/// twice for as long, and counts among the bodies of who asks, so this is half of what those may be.
pub const HTTP_FILTERED_BYTES_MAX: usize = 16 << 20;
/// Such an answer is sent in pieces of this size, between which it can be cut.
pub const HTTP_PART_BYTES_MAX: usize = 64 << 10;
/// What a target says to a login that it does not let in.
pub const HTTP_SAID_BYTES_MAX: usize = 64 << 10;

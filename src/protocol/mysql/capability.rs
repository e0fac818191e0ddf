//! What the two ends of a connection agree to do: MySQL's 32 bits, and above them MariaDB's own 32
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection#capabilities>).
//!
//! What changes the bytes or the meaning of a conversation is a flavour of the pool: the connection that a client
//! is lent was dialled with the very same bits, so that nothing of it has to be translated.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &[(&str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

capabilities! {
    /// MySQL: passwords longer than those of 3.2, which are always. MariaDB calls it CLIENT_MYSQL: where neither
    /// side says it, the upper 32 bits are there.
    LONG_PASSWORD = 0;
    /// An UPDATE's answer counts the rows found, not those changed.
    FOUND_ROWS = 1;
    LONG_FLAG = 2;
    CONNECT_WITH_DB = 3;
    NO_SCHEMA = 4;
    COMPRESS = 5;
    ODBC = 6;
    LOCAL_FILES = 7;
    /// Blanks between a function's name and its parenthesis.
    IGNORE_SPACE = 8;
    PROTOCOL_41 = 9;
    /// The server waits `interactive_timeout` for the client's next command.
    INTERACTIVE = 10;
    SSL = 11;
    IGNORE_SIGPIPE = 12;
    /// The server says whether a transaction is open.
    TRANSACTIONS = 13;
    RESERVED = 14;
    SECURE_CONNECTION = 15;
    MULTI_STATEMENTS = 16;
    MULTI_RESULTS = 17;
    PS_MULTI_RESULTS = 18;
    PLUGIN_AUTH = 19;
    CONNECT_ATTRS = 20;
    PLUGIN_AUTH_LENENC = 21;
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    SESSION_TRACK = 23;
    DEPRECATE_EOF = 24;
    OPTIONAL_RESULTSET_METADATA = 25;
    ZSTD = 26;
    QUERY_ATTRIBUTES = 27;
    MULTI_FACTOR = 28;
    CAPABILITY_EXTENSION = 29;
    SSL_VERIFY_SERVER_CERT = 30;
    REMEMBER_OPTIONS = 31;
    MARIADB_PROGRESS = 32;
    MARIADB_COM_MULTI = 33;
    MARIADB_STMT_BULK_OPERATIONS = 34;
    MARIADB_EXTENDED_METADATA = 35;
    MARIADB_CACHE_METADATA = 36;
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    pub const NONE: Self = Self(0);

    /// What a conversation's bytes or meaning hang on, and so what a pool's flavour says.
    ///
    /// Not among them, and never agreed to: `CAN_HANDLE_EXPIRED_PASSWORDS` (a login whose password has expired is
    /// no login to lend), `NO_SCHEMA` (refuses `database.table`; nobody asks for it, and MySQL has dropped it),
    /// `COM_MULTI` (MariaDB took it out again), `MULTI_FACTOR` (the proxy asks for one proof).
    pub const CONVERSATION: Self = Self(
        Self::FOUND_ROWS.0
            | Self::IGNORE_SPACE.0
            | Self::INTERACTIVE.0
            | Self::LOCAL_FILES.0
            | Self::MULTI_STATEMENTS.0
            | Self::MULTI_RESULTS.0
            | Self::PS_MULTI_RESULTS.0
            | Self::SESSION_TRACK.0
            | Self::DEPRECATE_EOF.0
            | Self::OPTIONAL_RESULTSET_METADATA.0
            | Self::QUERY_ATTRIBUTES.0
            | Self::MARIADB.0,
    );

    /// Those of the upper half that we agree to.
    pub const MARIADB: Self = Self(
        Self::MARIADB_PROGRESS.0
            | Self::MARIADB_STMT_BULK_OPERATIONS.0
            | Self::MARIADB_EXTENDED_METADATA.0
            | Self::MARIADB_CACHE_METADATA.0
            | Self::MARIADB_BULK_UNIT_RESULTS.0,
    );

    /// What every connection has, on either side: the protocol since 4.1.
    pub const ALWAYS: Self = Self(
        Self::LONG_FLAG.0
            | Self::PROTOCOL_41.0
            | Self::TRANSACTIONS.0
            | Self::SECURE_CONNECTION.0
            | Self::PLUGIN_AUTH.0,
    );

    /// For connections on which only we speak.
    pub const OURS: Self = Self(Self::DEPRECATE_EOF.0);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The conversation travels in compressed packets.
    pub const fn is_compressed(self) -> bool {
        self.has(Self::COMPRESS) || self.has(Self::ZSTD)
    }

    /// The text of a pool's flavour.
    pub fn flavour(self) -> String {
        format!("{:x}", (self & Self::CONVERSATION).0)
    }

    /// What a flavour says; an empty one is that of [`Self::OURS`].
    pub fn of_flavour(flavour: &str) -> Option<Self> {
        if flavour.is_empty() {
            return Some(Self::OURS);
        }
        u64::from_str_radix(flavour, 16).ok().map(|bits| Self(bits) & Self::CONVERSATION)
    }

    /// The names of those that are in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(_, bit)| self.has(*bit)).map(|(name, _)| *name)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Those that the other has not.
impl Sub for Capabilities {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capabilities(")?;
        for (at, name) in self.names().enumerate() {
            write!(f, "{}{name}", if at > 0 { " | " } else { "" })?;
        }
        f.write_str(")")
    }
}

/// The status flags of OK and EOF packets.
pub mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 1 << 1;
    pub const MORE_RESULTS: u16 = 1 << 3;
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    pub const NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
    pub const IN_READ_ONLY_TRANSACTION: u16 = 1 << 13;
    pub const SESSION_STATE_CHANGED: u16 = 1 << 14;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavour_says_what_a_conversation_hangs_on() {
        let client = Capabilities::ALWAYS
            | Capabilities::SSL
            | Capabilities::MULTI_STATEMENTS
            | Capabilities::MARIADB_PROGRESS
            | Capabilities::MARIADB_COM_MULTI;
        let flavour = client.flavour();
        assert_eq!(flavour, "100010000");
        let read = Capabilities::of_flavour(&flavour).unwrap();
        assert_eq!(read, Capabilities::MULTI_STATEMENTS | Capabilities::MARIADB_PROGRESS);
        assert_eq!(format!("{read:?}"), "Capabilities(MULTI_STATEMENTS | MARIADB_PROGRESS)");
        // No capability at all is another thing than none asked for.
        assert_eq!(Capabilities::NONE.flavour(), "0");
        assert_eq!(Capabilities::of_flavour("0"), Some(Capabilities::NONE));
        assert_eq!(Capabilities::of_flavour(""), Some(Capabilities::OURS));
        assert_eq!(Capabilities::of_flavour("x"), None);
    }

    #[test]
    fn names_and_bits_agree_with_the_documents() {
        assert_eq!(Capabilities::NAMES.len(), 38);
        assert_eq!(Capabilities::PLUGIN_AUTH_LENENC.0, 0x20_0000);
        assert_eq!(Capabilities::QUERY_ATTRIBUTES.0, 0x800_0000);
        assert_eq!(Capabilities::MARIADB_STMT_BULK_OPERATIONS.0 >> 32, 4);
    }
}

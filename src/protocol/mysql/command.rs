//! What a client can ask: the first byte of its packets
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/my__command_8h.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/2-text-protocol>).

use bytes::{BufMut, BytesMut};

use super::capability::Capabilities;
use super::packet;

pub const QUIT: u8 = 0x01;
pub const INIT_DB: u8 = 0x02;
pub const QUERY: u8 = 0x03;
pub const FIELD_LIST: u8 = 0x04;
pub const REFRESH: u8 = 0x07;
pub const SHUTDOWN: u8 = 0x08;
pub const STATISTICS: u8 = 0x09;
pub const PROCESS_INFO: u8 = 0x0a;
pub const PROCESS_KILL: u8 = 0x0c;
pub const DEBUG: u8 = 0x0d;
pub const PING: u8 = 0x0e;
pub const CHANGE_USER: u8 = 0x11;
pub const BINLOG_DUMP: u8 = 0x12;
pub const TABLE_DUMP: u8 = 0x13;
pub const CONNECT_OUT: u8 = 0x14;
pub const REGISTER_SLAVE: u8 = 0x15;
pub const STMT_PREPARE: u8 = 0x16;
pub const STMT_EXECUTE: u8 = 0x17;
pub const STMT_SEND_LONG_DATA: u8 = 0x18;
pub const STMT_CLOSE: u8 = 0x19;
pub const STMT_RESET: u8 = 0x1a;
pub const SET_OPTION: u8 = 0x1b;
pub const STMT_FETCH: u8 = 0x1c;
pub const DAEMON: u8 = 0x1d;
pub const BINLOG_DUMP_GTID: u8 = 0x1e;
pub const RESET_CONNECTION: u8 = 0x1f;
/// MySQL's.
pub const CLONE: u8 = 0x20;
pub const SUBSCRIBE_GROUP_REPLICATION_STREAM: u8 = 0x21;
/// MariaDB's.
pub const STMT_BULK_EXECUTE: u8 = 0xfa;

/// Appends a command of ours.
pub(super) fn put(out: &mut BytesMut, command: u8, body: &[u8]) {
    packet::put(out, 0, |out| {
        out.put_u8(command);
        out.put_slice(body);
    });
}

/// Appends a statement of ours. Where attributes were agreed to it says that it has none.
pub(super) fn put_query(out: &mut BytesMut, agreed: Capabilities, text: &str) {
    packet::put(out, 0, |out| {
        out.put_u8(QUERY);
        if agreed.has(Capabilities::QUERY_ATTRIBUTES) {
            out.put_slice(&[0, 1]);
        }
        out.put_slice(text.as_bytes());
    });
}

/// What the server itself is shown of who is there, for its administrators
/// (`performance_schema.user_variables_by_thread`).
pub(super) fn stamp(stamp: &str) -> String {
    format!("SET @tidegate='{}'", safe(stamp))
}

/// The same in front of a text, where process lists and slow logs show it.
pub(super) fn comment(stamp: &str) -> String {
    format!("/* tidegate {} */ ", safe(stamp))
}

/// Names and numbers of ours have no other characters; nothing hangs on it that they stay so.
fn safe(stamp: &str) -> String {
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | '+');
    stamp.chars().filter(is_safe).collect()
}

//! Bound values of the binary protocol: found in a command, and shown as people read them
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/3-binary-protocol-prepared-statements>).

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::packet::{take, take_bytes, take_number};
use crate::model::Parameters;
use crate::protocol::masking::mask_addresses;

/// A flag of EXECUTE: the number of parameters is in it also where the statement has none.
pub(super) const PARAMETER_COUNT_AVAILABLE: u8 = 8;
/// A flag of BULK_EXECUTE: the types are in it.
pub(super) const BULK_SENDS_TYPES: u16 = 128;

/// In a type's second byte.
const UNSIGNED: u8 = 0x80;

/// What a note needs beside the values: the form (1 byte), how many there are (2 bytes), their types (2 bytes each),
/// then the number of each one whose value was sent ahead (2 bytes) with its length (8 bytes).
const HEAD_BYTES: usize = 3;

/// Forms. Of an EXECUTE; the same with a name behind each type; attributes of a QUERY, which have names too; rows of
/// a BULK_EXECUTE.
const PLAIN: u8 = 0;
const NAMED: u8 = 1;
const ATTRIBUTES: u8 = 2;
const BULK: u8 = 3;

/// How an EXECUTE was agreed to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Parameters may have names (`QUERY_ATTRIBUTES`).
    pub attributes: bool,
    /// [`PARAMETER_COUNT_AVAILABLE`].
    pub counted: bool,
    pub is_mariadb: bool,
}

/// A type as the server reads it. MySQL takes 15 bits for its number; whatever is none that a client can bind says its
/// own length, as a text does. MariaDB takes 8, and knows them all.
fn as_read([kind, flags]: [u8; 2], is_mariadb: bool) -> [u8; 2] {
    let is_bound = flags & !UNSIGNED == 0 && !matches!(kind, kinds::NULL | kinds::INT24 | kinds::YEAR);
    if is_mariadb || is_bound { [kind, flags] } else { [kinds::STRING, 0] }
}

fn begin(head: &mut BytesMut, form: u8, count: u16) {
    head.put_u8(form);
    head.put_u16_le(count);
}

/// The types in a head.
pub(super) fn types(head: &[u8]) -> &[u8] {
    let count = head.get(1..HEAD_BYTES).map_or(0, |count| u16::from_le_bytes([count[0], count[1]]));
    head.get(HEAD_BYTES..HEAD_BYTES + 2 * usize::from(count)).unwrap_or_default()
}

/// The attributes at the front of a QUERY, from their bitmap of NULLs on, and its text. `None`: they do not fit, or
/// not into what we look at. Where they end the text begins that the trail has, so they must be read as the server
/// reads them, which is MySQL's: no other has them.
pub(super) fn attributes<'a>(body: &'a [u8], head: &mut BytesMut) -> Option<(&'a [u8], &'a [u8])> {
    let mut rest = body;
    let count = take_number(&mut rest)?;
    // Sets of parameters, always one.
    take_number(&mut rest)?;
    if count == 0 {
        return Some((&[], rest));
    }
    let count = u16::try_from(count).ok()?;
    begin(head, ATTRIBUTES, count);
    let values = rest;
    let mut reader = Reader { rest };
    let nulls = reader.split(usize::from(count).div_ceil(8))?;
    if take::<1>(&mut reader.rest)? != [1] {
        return None;
    }
    for _ in 0..count {
        head.put_slice(&as_read(take(&mut reader.rest)?, false));
        take_bytes(&mut reader.rest)?;
    }
    for at in 0..usize::from(count) {
        if !is_null(nulls, at) {
            reader.value(types(head)[2 * at])?;
        }
    }
    Some((&values[..values.len() - reader.rest.len()], reader.rest))
}

/// The values of an EXECUTE, from their bitmap of NULLs on, and whether their types came along. `known`: how many
/// parameters the statement has, their types as sent before, and which were sent ahead. `None`: they do not fit, or
/// not into what we look at.
pub(super) fn execute<'a>(
    rest: &'a [u8],
    form: Form,
    (parameters, before, long): (usize, &[u8], &[(u16, u64)]),
    head: &mut BytesMut,
) -> Option<(&'a [u8], bool)> {
    let mut rest = rest;
    let mut count = parameters;
    if form.attributes && (parameters > 0 || form.counted) {
        count = usize::try_from(take_number(&mut rest)?).ok()?;
    }
    if count == 0 {
        return Some((&[], false));
    }
    begin(head, if form.attributes { NAMED } else { PLAIN }, u16::try_from(count).ok()?);
    let values = rest;
    let mut reader = Reader { rest };
    reader.split(count.div_ceil(8))?;
    let is_new = take::<1>(&mut reader.rest)? != [0];
    if is_new {
        for _ in 0..count {
            head.put_slice(&as_read(take(&mut reader.rest)?, form.is_mariadb));
            if form.attributes {
                take_bytes(&mut reader.rest)?;
            }
        }
    } else {
        // Where a limit has dropped them they are not known, and the values are shown as bytes.
        head.put_slice(before.get(..2 * count).unwrap_or_default());
        head.put_bytes(0, (2 * count).saturating_sub(before.len()));
    }
    for (parameter, length) in long {
        head.put_u16_le(*parameter);
        head.put_u64_le(*length);
    }
    Some((values, is_new))
}

/// The rows of a BULK_EXECUTE.
pub(super) fn bulk<'a>(
    rest: &'a [u8],
    has_types: bool,
    (parameters, before): (usize, &[u8]),
    head: &mut BytesMut,
) -> Option<&'a [u8]> {
    let count = u16::try_from(parameters).ok()?;
    begin(head, BULK, count);
    let bytes = 2 * parameters;
    let mut reader = Reader { rest };
    if has_types {
        head.put_slice(reader.split(bytes)?);
    } else {
        head.put_slice(before.get(..bytes).unwrap_or_default());
        head.put_bytes(0, bytes.saturating_sub(before.len()));
    }
    Some(reader.rest)
}

fn is_null(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// The bound values of a statement, in order, as JSON: attributes behind their names, the rows of a bulk each as an
/// array.
///
/// What cannot be read is shown as it is: `{"hex": "…"}`. What a limit cut ends with `{"cut": true}`. Never
/// fails: it reads what a client sent.
pub fn describe(parameters: &Parameters<'_>) -> Vec<Value> {
    let mut values = Vec::new();
    let mut reader = Reader { rest: parameters.values };
    let is_whole = read_all(&mut reader, parameters.types, &mut values).is_some();
    if !is_whole && parameters.length > 0 {
        values.push(json!({ "cut": true }));
    }
    values
}

/// Reads what there is; `None`: it ended early.
fn read_all(reader: &mut Reader<'_>, head: &[u8], values: &mut Vec<Value>) -> Option<()> {
    let (form, count) = match head.first_chunk::<HEAD_BYTES>() {
        Some([form, low, high]) => (*form, usize::from(u16::from_le_bytes([*low, *high]))),
        None => return None,
    };
    let types = types(head);
    if form == BULK {
        return read_rows(reader, types, count, values);
    }
    let nulls = reader.split(count.div_ceil(8))?;
    let mut names = Vec::new();
    if take::<1>(&mut reader.rest)? != [0] {
        for _ in 0..count {
            take::<2>(&mut reader.rest)?;
            if form != PLAIN {
                names.push(take_bytes(&mut reader.rest)?);
            }
        }
    }
    let ahead = head.get(HEAD_BYTES + types.len()..).unwrap_or_default();
    for at in 0..count {
        let long =
            ahead.chunks_exact(10).find(|long| usize::from(u16::from_le_bytes([long[0], long[1]])) == at);
        let value = match long {
            Some(long) => {
                json!({ "bytes": long[2..].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) })
            }
            None if is_null(nulls, at) => Value::Null,
            None => reader.shown(types.get(2 * at..2 * at + 2), values)?,
        };
        let name = names.get(at).copied().unwrap_or_default();
        values.push(if name.is_empty() { value } else { json!({ String::from_utf8_lossy(name): value }) });
    }
    Some(())
}

/// Rows of a bulk: in front of each value a byte says whether there is one.
fn read_rows(reader: &mut Reader<'_>, types: &[u8], count: usize, values: &mut Vec<Value>) -> Option<()> {
    while count > 0 && !reader.rest.is_empty() {
        let mut row = Vec::new();
        let read = (0..count).try_for_each(|at| {
            let value = match take::<1>(&mut reader.rest)? {
                [0] => reader.shown(types.get(2 * at..2 * at + 2), &mut row)?,
                [1] => Value::Null,
                [2] => json!({ "default": true }),
                [_] => json!({ "ignored": true }),
            };
            row.push(value);
            Some(())
        });
        values.push(Value::Array(row));
        read?;
    }
    Some(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn split(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    /// The bytes of one value, without those that say its length.
    fn value(&mut self, kind: u8) -> Option<&'a [u8]> {
        match fixed(kind) {
            Some(length) => self.split(length),
            None => take_bytes(&mut self.rest),
        }
    }

    /// One value; where it is cut, what there is of it goes to `values`.
    fn shown(&mut self, kind: Option<&[u8]>, values: &mut Vec<Value>) -> Option<Value> {
        let (kind, flags) = match kind {
            Some([kind, flags]) => (*kind, *flags),
            _ => (kinds::STRING, 0),
        };
        let whole = self.rest;
        let Some(bytes) = self.value(kind) else {
            let mut rest = whole;
            if fixed(kind).is_none() && !is_time(kind) && take_number(&mut rest).is_some() && !rest.is_empty()
            {
                values.push(text(rest));
            }
            self.rest = &[];
            return None;
        };
        Some(show(kind, flags & UNSIGNED != 0, bytes))
    }
}

/// <https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html>
mod kinds {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const STRING: u8 = 254;
}

/// How long a value of this type is; `None`: it says so itself.
fn fixed(kind: u8) -> Option<usize> {
    match kind {
        kinds::NULL => Some(0),
        kinds::TINY => Some(1),
        kinds::SHORT | kinds::YEAR => Some(2),
        kinds::LONG | kinds::INT24 | kinds::FLOAT => Some(4),
        kinds::LONGLONG | kinds::DOUBLE => Some(8),
        _ => None,
    }
}

fn is_time(kind: u8) -> bool {
    matches!(kind, kinds::TIMESTAMP | kinds::DATE | kinds::TIME | kinds::DATETIME)
}

fn show(kind: u8, is_unsigned: bool, bytes: &[u8]) -> Value {
    match (kind, bytes) {
        (kinds::NULL, _) => Value::Null,
        (kinds::FLOAT, &[a, b, c, d]) => float(f32::from_le_bytes([a, b, c, d]).to_string()),
        (kinds::DOUBLE, _) => {
            bytes.try_into().map_or_else(|_| hex(bytes), |bytes| float(f64::from_le_bytes(bytes).to_string()))
        }
        (kinds::TIME, _) => time(bytes).map_or_else(|| hex(bytes), Value::from),
        (kind, _) if is_time(kind) => {
            date(bytes, kind == kinds::DATE).map_or_else(|| hex(bytes), Value::from)
        }
        (kind, _) if fixed(kind).is_some() => integer(bytes, is_unsigned),
        _ => text(bytes),
    }
}

fn integer(bytes: &[u8], is_unsigned: bool) -> Value {
    let is_negative = !is_unsigned && bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = [if is_negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    match is_negative {
        true => i64::from_le_bytes(all).into(),
        false => u64::from_le_bytes(all).into(),
    }
}

/// As digits: JSON has no infinity, and a number would be read with other digits than the client's.
fn float(digits: String) -> Value {
    serde_json::from_str::<serde_json::Number>(&digits).map_or(Value::String(digits), Value::Number)
}

fn date(bytes: &[u8], only_date: bool) -> Option<String> {
    let mut rest = bytes;
    if rest.is_empty() {
        return Some(if only_date { "0000-00-00".into() } else { "0000-00-00 00:00:00".into() });
    }
    let year = u16::from_le_bytes(take(&mut rest)?);
    let [month, day] = take(&mut rest)?;
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if rest.is_empty() {
        return Some(text);
    }
    let [hour, minute, second] = take(&mut rest)?;
    text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
    fraction(rest, text)
}

fn time(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    if rest.is_empty() {
        return Some("00:00:00".into());
    }
    let [is_negative] = take(&mut rest)?;
    let days = u64::from(u32::from_le_bytes(take(&mut rest)?));
    let [hour, minute, second] = take(&mut rest)?;
    let sign = if is_negative == 1 { "-" } else { "" };
    fraction(rest, format!("{sign}{:02}:{minute:02}:{second:02}", days * 24 + u64::from(hour)))
}

/// Microseconds, where there are any.
fn fraction(rest: &[u8], mut text: String) -> Option<String> {
    if !rest.is_empty() {
        let micros = u32::from_le_bytes(rest.try_into().ok()?);
        text.push_str(&format!(".{micros:06}"));
    }
    Some(text)
}

/// Text where it is some; blobs often are.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => String::from_utf8_lossy(&mask_addresses(bytes)).into(),
        // A limit may have cut a character in two.
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            String::from_utf8_lossy(&mask_addresses(&bytes[..error.valid_up_to()])).into()
        }
        _ => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    json!({ "hex": digits.map(char::from).collect::<String>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(head: &[u8], values: &[u8]) -> String {
        let parameters = Parameters { types: head, values, length: values.len() as u64 };
        Value::from(describe(&parameters)).to_string()
    }

    fn executed(rest: &[u8], form: Form, known: (usize, &[u8], &[(u16, u64)])) -> (String, Vec<u8>) {
        let mut head = BytesMut::new();
        let (values, _) = execute(rest, form, known, &mut head).unwrap();
        (described(&head, values), types(&head).to_vec())
    }

    const PLAIN_FORM: Form = Form { attributes: false, counted: false, is_mariadb: false };

    #[test]
    fn values_are_shown_by_their_types() {
        let rest = [
            // NULL is the second of ten.
            &[0b10, 0, 1][..],
            &[1, 0, 6, 0, 3, 0, 8, 0x80, 5, 0, 12, 0, 11, 0, 10, 0, 253, 0, 252, 0],
            &[0xff],
            &(-2i32).to_le_bytes(),
            &u64::MAX.to_le_bytes(),
            &1.5f64.to_le_bytes(),
            &[11, 0xe8, 7, 2, 29, 13, 14, 15, 0x40, 0xe2, 1, 0],
            &[8, 1, 1, 0, 0, 0, 2, 3, 4],
            &[4, 0xe8, 7, 1, 2],
            b"\x05caf\xc3\xa9",
            b"\x02\0\xff",
        ]
        .concat();
        let (shown, types) = executed(&rest, PLAIN_FORM, (10, &[], &[]));
        assert_eq!(
            shown,
            "[-1,null,-2,18446744073709551615,1.5,\"2024-02-29 13:14:15.123456\",\"-26:03:04\",\"2024-01-02\",\
             \"café\",{\"hex\":\"00ff\"}]"
        );
        // The next one brings no types along.
        let (shown, _) = executed(&[&[0b1111_1101, 3, 0][..], &[7]].concat(), PLAIN_FORM, (10, &types, &[]));
        assert!(shown.starts_with("[null,"), "{shown}");
    }

    #[test]
    fn values_that_were_sent_ahead_are_named_by_their_length() {
        let rest = [0, 1, 252, 0, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        let (shown, _) = executed(&rest, PLAIN_FORM, (2, &[], &[(0, 70_000)]));
        assert_eq!(shown, r#"[{"bytes":70000},5]"#);
    }

    #[test]
    fn attributes_have_names() {
        let mut head = BytesMut::new();
        let body = b"\x02\x01\x02\x01\xfe\0\x01k\x08\0\x01n\x03abcSELECT 1";
        let (values, text) = attributes(body, &mut head).unwrap();
        assert_eq!(text, b"SELECT 1");
        assert_eq!(described(&head, values), r#"[{"k":"abc"},{"n":null}]"#);
        head.clear();
        assert_eq!(attributes(b"\0\x01SELECT 1", &mut head), Some((&b""[..], &b"SELECT 1"[..])));
        for bad in [&b""[..], b"\0", b"\x01\x01", b"\x01\x01\0\0", b"\x01\x01\0\x01\x08\0\0\0", b"\xff\x01"] {
            head.clear();
            assert_eq!(attributes(bad, &mut head), None, "{bad:?}");
        }
        // In an EXECUTE they stand behind the parameters, which have none.
        let form = Form { attributes: true, counted: true, is_mariadb: false };
        let rest = b"\x02\0\x01\x01\0\0\xfe\0\x01k\x07\x02hi";
        assert_eq!(executed(rest, form, (1, &[], &[])).0, r#"[7,{"k":"hi"}]"#);
    }

    /// Each was taken by MySQL 9.7 for an attribute of no bytes, or of four, and then this very text.
    #[test]
    fn a_text_begins_where_the_server_has_it_begin() {
        let text = b"DELETE FROM items";
        let none: [[u8; 2]; 8] = [[9, 0], [13, 0], [6, 0], [3, 1], [8, 1], [1, 1], [3, 0x41], [254, 127]];
        let four = [[7, 0], [10, 0], [12, 0]].map(|kind| (kind, &b"\xfc\x04\0\xe8\x07\x01\x01"[..]));
        for (kind, value) in none.map(|kind| (kind, &b"\0"[..])).into_iter().chain(four) {
            let body = [&b"\x01\x01\0\x01"[..], &kind, b"\x01n", value, text].concat();
            let mut head = BytesMut::new();
            let (values, found) = attributes(&body, &mut head).unwrap();
            assert_eq!((found, &values[values.len() - value.len()..]), (&text[..], value), "{kind:?}");
        }
        // An EXECUTE's values are shown as it reads them.
        let rest = [&[0, 2][..], &[9, 0, 254, 0], b"\x02hi\x03you"].concat();
        assert_eq!(executed(&rest, PLAIN_FORM, (2, &[], &[])).0, r#"["hi","you"]"#);
        let rest = [&[0, 1][..], &[9, 0, 254, 0], &[7, 0, 0, 0], b"\x03you"].concat();
        let form = Form { is_mariadb: true, ..PLAIN_FORM };
        assert_eq!(executed(&rest, form, (2, &[], &[])).0, r#"[7,"you"]"#);
    }

    #[test]
    fn rows_of_a_bulk_are_arrays() {
        let mut head = BytesMut::new();
        let rest = b"\x01\0\xfe\0\0\x07\0\x01a\x01\x02\0\x08\x03";
        let values = bulk(rest, true, (2, &[]), &mut head).unwrap();
        assert_eq!(described(&head, values), r#"[[7,"a"],[null,{"default":true}],[8,{"ignored":true}]]"#);
    }

    #[test]
    fn what_is_cut_says_so() {
        let mut head = BytesMut::new();
        let rest = b"\0\x01\xfe\0\x08\0\x05hello\x01\0\0";
        let (values, _) = execute(rest, PLAIN_FORM, (2, &[], &[]), &mut head).unwrap();
        assert_eq!(described(&head, values), r#"["hello",{"cut":true}]"#);
        assert_eq!(described(&head, &values[..10]), r#"["hel",{"cut":true}]"#);
        assert_eq!(described(b"", b"x"), r#"[{"cut":true}]"#);
    }
}

//! Bound values as people read them: text as it is, binary by type
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, Bind; the binary forms are those of
//! each type's `send` function).

use serde_json::{Value, json};

use crate::model::Parameters;
use crate::protocol::masking::mask_addresses;

/// The bound values of a statement, in order, as JSON.
///
/// What cannot be read is shown as it is: `{"hex": "…"}`. What a limit cut ends with `{"cut": true}`. Never
/// fails: it reads what a client sent.
pub fn describe(parameters: &Parameters<'_>) -> Vec<Value> {
    let mut reader = Reader { rest: parameters.values };
    let mut values = Vec::new();
    let is_whole = read_all(&mut reader, parameters.types, &mut values).is_some();
    if !is_whole && parameters.length > 0 {
        values.push(json!({ "cut": true }));
    }
    values
}

/// Reads what there is; `None`: it ended early.
fn read_all(reader: &mut Reader<'_>, types: &[u8], values: &mut Vec<Value>) -> Option<()> {
    let formats = usize::from(reader.u16()?);
    let formats = reader.take(formats * 2)?;
    let count = usize::from(reader.u16()?);
    for at in 0..count {
        let length = reader.i32()?;
        let Ok(length) = usize::try_from(length) else {
            values.push(Value::Null);
            continue;
        };
        // One format is for all, none at all means text.
        let format = match formats.len() {
            0 => 0,
            2 => formats[1],
            _ => formats.get(at * 2 + 1).copied().unwrap_or(0),
        };
        let oid = types.get(at * 4..at * 4 + 4);
        let oid = oid.map_or(0, |oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]));
        let Some(bytes) = reader.take(length) else {
            // The limit fell into this value.
            let rest = std::mem::take(&mut reader.rest);
            if !rest.is_empty() {
                values.push(if format == 0 { text(rest) } else { hex(rest) });
            }
            return None;
        };
        values.push(match format {
            0 => text(bytes),
            _ => binary(oid, bytes, 0).unwrap_or_else(|| hex(bytes)),
        });
    }
    Some(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(&mask_addresses(bytes)).into_owned())
}

fn hex_text(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hex(bytes: &[u8]) -> Value {
    json!({ "hex": hex_text(bytes) })
}

/// Arrays do not hold arrays; one level is all there is.
const DEPTH_MAX: u8 = 1;

/// `None`: not a type we know, or not a value of it.
fn binary(oid: u32, bytes: &[u8], depth: u8) -> Option<Value> {
    let mut reader = Reader { rest: bytes };
    let value = match oid {
        16 => match reader.take(1)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return None,
        },
        20 => json!(reader.i64()?),
        21 => json!(reader.i16()?),
        23 => json!(reader.i32()?),
        26 | 24 | 2205 | 2206 | 28 | 29 => json!(reader.u32()?),
        700 => float(f64::from(f32::from_be_bytes(reader.array()?)), 700),
        701 => float(f64::from_be_bytes(reader.array()?), 701),
        // "char", name, text, json, xml, unknown, bpchar, varchar, cstring
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 | 2275 => text(reader.take(bytes.len())?),
        17 => Value::String(format!("\\x{}", hex_text(reader.take(bytes.len())?))),
        // jsonb: a version, then text
        3802 => match reader.take(1)? {
            [1] => text(reader.take(bytes.len() - 1)?),
            _ => return None,
        },
        2950 => uuid(reader.array()?),
        1082 => date(reader.i32()?)?,
        1083 => Value::String(time(reader.i64()?)?),
        1266 => Value::String(format!("{}{}", time(reader.i64()?)?, offset(reader.i32()?)?)),
        1114 => timestamp(reader.i64()?, "")?,
        1184 => timestamp(reader.i64()?, "+00")?,
        1186 => interval(reader.i64()?, reader.i32()?, reader.i32()?)?,
        1700 => numeric(&mut reader)?,
        869 | 650 => address(&mut reader, oid)?,
        829 | 774 => mac(reader.take(if oid == 829 { 6 } else { 8 })?),
        _ => match element(oid) {
            Some(element) if depth < DEPTH_MAX => array(&mut reader, element, depth)?,
            _ => return None,
        },
    };
    reader.rest.is_empty().then_some(value)
}

/// The element type of an array type (`pg_type.typelem` of the built-in ones).
fn element(oid: u32) -> Option<u32> {
    Some(match oid {
        143 => 142,
        199 => 114,
        651 => 650,
        775 => 774,
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1270 => 1266,
        2951 => 2950,
        3807 => 3802,
        _ => return None,
    })
}

/// JSON has no way to write what is not a number.
fn float(value: f64, oid: u32) -> Value {
    if !value.is_finite() {
        let name = if value.is_nan() { "NaN" } else { "Infinity" };
        return Value::String(if value < 0.0 { format!("-{name}") } else { name.into() });
    }
    // The shortest text of a float4 is shorter than that of the same float8.
    let shortest = if oid == 700 { format!("{}", value as f32).parse().unwrap_or(value) } else { value };
    json!(shortest)
}

fn uuid(bytes: [u8; 16]) -> Value {
    let text = hex_text(&bytes);
    Value::String(format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    ))
}

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;

/// Year, month and day in the proleptic Gregorian calendar, from days since 1970
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + carry, month, day)
}

/// There is no year zero: the one before 1 is 1 BC.
fn day_text(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil(days + EPOCH_DAYS);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn date(days: i32) -> Option<Value> {
    let text = match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => {
            let (day, era) = day_text(i64::from(days));
            format!("{day}{era}")
        }
    };
    Some(Value::String(text))
}

fn time(micros: i64) -> Option<String> {
    if !(0..=DAY_MICROS).contains(&micros) {
        return None;
    }
    let seconds = micros / 1_000_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Some(format!("{clock}{}", fraction(micros % 1_000_000)))
}

fn fraction(micros: i64) -> String {
    if micros == 0 {
        return String::new();
    }
    format!(".{micros:06}").trim_end_matches('0').to_owned()
}

/// Seconds west of Greenwich.
fn offset(west: i32) -> Option<String> {
    let east = west.checked_neg()?;
    let (hours, minutes, seconds) = (east.abs() / 3_600, east.abs() / 60 % 60, east.abs() % 60);
    let mut text = format!("{}{hours:02}", if east < 0 { '-' } else { '+' });
    if minutes > 0 || seconds > 0 {
        text.push_str(&format!(":{minutes:02}"));
    }
    if seconds > 0 {
        text.push_str(&format!(":{seconds:02}"));
    }
    Some(text)
}

fn timestamp(micros: i64, zone: &str) -> Option<Value> {
    let text = match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        micros => {
            let (day, era) = day_text(micros.div_euclid(DAY_MICROS));
            format!("{day} {}{zone}{era}", time(micros.rem_euclid(DAY_MICROS))?)
        }
    };
    Some(Value::String(text))
}

/// In the server's own style `postgres`: `1 year 2 mons -3 days +04:05:06`.
fn interval(micros: i64, days: i32, months: i32) -> Option<Value> {
    let mut parts: Vec<String> = Vec::new();
    let mut negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let sign = if negative && count > 0 { "+" } else { "" };
            parts.push(format!("{sign}{count} {unit}{}", if count == 1 { "" } else { "s" }));
            negative = count < 0;
        }
    }
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 {
            "-"
        } else if negative {
            "+"
        } else {
            ""
        };
        let micros = micros.unsigned_abs();
        let seconds = micros / 1_000_000;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        parts.push(format!("{sign}{clock}{}", fraction((micros % 1_000_000) as i64)));
    }
    Some(Value::String(parts.join(" ")))
}

/// Groups of four digits that we write before or behind the point.
const NUMERIC_GROUPS_MAX: i64 = 250;

/// Digits to the base 10,000, the weight of the first, a sign, and how many decimals to show
/// (`numeric_send`).
fn numeric(reader: &mut Reader<'_>) -> Option<Value> {
    let count = usize::from(reader.u16()?);
    let weight = i64::from(reader.i16()?);
    let sign = reader.u16()?;
    let scale = usize::from(reader.u16()?);
    let digits = reader.take(count * 2)?;
    let special = match sign {
        0xc000 => "NaN",
        0xd000 => "Infinity",
        0xf000 => "-Infinity",
        0x0000 | 0x4000 => "",
        _ => return None,
    };
    if !special.is_empty() {
        return Some(Value::String(special.into()));
    }
    // Few bytes can stand for very many zeros; such a number is easier to read as it came.
    if weight > NUMERIC_GROUPS_MAX || scale > 4 * NUMERIC_GROUPS_MAX as usize {
        return None;
    }
    let digit = |power: i64| -> Option<u16> {
        let at = usize::try_from(weight.checked_sub(power)?).ok()?;
        let pair = digits.get(at * 2..at * 2 + 2)?;
        Some(u16::from_be_bytes([pair[0], pair[1]]))
    };
    if digits.chunks_exact(2).any(|pair| u16::from_be_bytes([pair[0], pair[1]]) > 9_999) {
        return None;
    }
    let mut text = String::new();
    for power in (0..=weight.max(0)).rev() {
        text.push_str(&format!("{:04}", digit(power).unwrap_or(0)));
    }
    let whole = text.trim_start_matches('0');
    let mut text =
        format!("{}{}", if sign == 0x4000 { "-" } else { "" }, if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        text.push('.');
        let start = text.len();
        for power in 1..=scale.div_ceil(4) as i64 {
            text.push_str(&format!("{:04}", digit(-power).unwrap_or(0)));
        }
        text.truncate(start + scale);
    }
    Some(Value::String(text))
}

/// Family (2: IPv4, 3: IPv6), bits, whether it is a cidr, and the address.
fn address(reader: &mut Reader<'_>, oid: u32) -> Option<Value> {
    let [family, bits, _cidr, length] = reader.array()?;
    let (text, whole) = match (family, length) {
        (2, 4) => (std::net::Ipv4Addr::from(reader.array::<4>()?).to_string(), 32),
        (3, 16) => (std::net::Ipv6Addr::from(reader.array::<16>()?).to_string(), 128),
        _ => return None,
    };
    // A cidr always shows its bits, an inet only when they are not all.
    Some(Value::String(if oid == 650 || bits != whole { format!("{text}/{bits}") } else { text }))
}

fn mac(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

/// Dimensions, a flag for nulls, the element type, then length and lower bound of each dimension, then
/// the elements (`array_send`).
fn array(reader: &mut Reader<'_>, element: u32, depth: u8) -> Option<Value> {
    let dimensions = usize::try_from(reader.i32()?).ok().filter(|count| *count <= 6)?;
    let _has_nulls = reader.i32()?;
    if reader.u32()? != element {
        return None;
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(reader.i32()?).ok()?);
        let _lower_bound = reader.i32()?;
    }
    if dimensions == 0 {
        return Some(json!([]));
    }
    elements(reader, element, depth, &lengths)
}

fn elements(reader: &mut Reader<'_>, element: u32, depth: u8, lengths: &[usize]) -> Option<Value> {
    let (&length, inner) = lengths.split_first()?;
    // Every element takes four bytes at least, so a length that cannot be is not even begun.
    if length > reader.rest.len() / 4 {
        return None;
    }
    let mut values = Vec::with_capacity(length);
    for _ in 0..length {
        if !inner.is_empty() {
            values.push(elements(reader, element, depth, inner)?);
            continue;
        }
        values.push(match usize::try_from(reader.i32()?) {
            Err(_) => Value::Null,
            Ok(length) => {
                let bytes = reader.take(length)?;
                binary(element, bytes, depth + 1).unwrap_or_else(|| hex(bytes))
            }
        });
    }
    Some(Value::Array(values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bind's formats and values; the type oids.
    fn bound(format: u16, values: &[(u32, Option<&[u8]>)]) -> (Vec<u8>, Vec<u8>) {
        let mut body = vec![0, 1];
        body.extend(format.to_be_bytes());
        body.extend((values.len() as u16).to_be_bytes());
        for (_, value) in values {
            body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend_from_slice(value.unwrap_or_default());
        }
        (values.iter().flat_map(|(oid, _)| oid.to_be_bytes()).collect(), body)
    }

    fn described(types: &[u8], values: &[u8]) -> Vec<Value> {
        describe(&Parameters { types, values, length: values.len() as u64 })
    }

    /// A value of the server's own text form, in ours.
    fn expected(oid: u32, text: &str) -> Value {
        match oid {
            16 => json!(text == "t"),
            20 | 21 | 23 | 26 => text.parse::<i64>().unwrap().into(),
            700 | 701 => text
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
                .map_or(Value::String(text.into()), |value| json!(value)),
            _ => text.into(),
        }
    }

    #[test]
    fn binary_values_read_as_the_server_writes_them() {
        let mut count = 0;
        for line in include_str!("golden/values.tsv").lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split('\t');
            let (oid, hex, text) =
                (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap_or_default());
            let oid: u32 = oid.parse().unwrap();
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            let (types, values) = bound(1, &[(oid, Some(&bytes))]);
            let value = described(&types, &values).remove(0);
            count += 1;
            if element(oid).is_none() && oid != 2249 {
                assert_eq!(value, expected(oid, text), "{line}");
            }
        }
        assert!(count > 50);
    }

    #[test]
    fn arrays_nulls_texts_and_unknown_types() {
        let ints = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1];
        let ints = [&ints[..], &[0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255]].concat();
        let (types, values) =
            bound(1, &[(1007, Some(&ints)), (25, None), (99_999, Some(b"\x01\xff")), (23, Some(b"\x01"))]);
        assert_eq!(
            described(&types, &values),
            [json!([7, null]), Value::Null, json!({"hex": "01ff"}), json!({"hex": "01"})]
        );
        let (types, values) = bound(0, &[(23, Some(b"42")), (0, Some(b"\xff"))]);
        assert_eq!(described(&types, &values), [json!("42"), json!("\u{fffd}")]);
        assert_eq!(described(&[], &[0, 0, 0, 0]), [] as [Value; 0]);
        assert_eq!(described(&[], &[]), [] as [Value; 0]);
        // Real arrays of the server, in two dimensions too.
        let of = |text: &str| {
            let line = include_str!("golden/values.tsv").lines().find(|line| line.ends_with(text)).unwrap();
            let hex = line.split('\t').nth(1).unwrap();
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            let oid = line.split('\t').next().unwrap().parse().unwrap();
            let (types, values) = bound(1, &[(oid, Some(&bytes))]);
            described(&types, &values).remove(0)
        };
        assert_eq!(of("\t{{1,2},{3,4}}"), json!([[1, 2], [3, 4]]));
        assert_eq!(of("\t{a,\"b c\",\"\"}"), json!(["a", "b c", ""]));
        assert_eq!(of("\t{}"), json!([]));
        assert_eq!(of("\t{1.5,2}"), json!(["1.5", "2"]));
        assert_eq!(of("\t{t,f}"), json!([true, false]));
    }

    #[test]
    fn what_was_cut_says_so() {
        let (types, values) = bound(0, &[(25, Some(b"abcdef")), (25, Some(b"x"))]);
        let length = values.len() as u64;
        let cut = describe(&Parameters { types: &types, values: &values[..12], length });
        assert_eq!(cut, [json!("ab"), json!({"cut": true})]);
        assert_eq!(describe(&Parameters { types: &types, values: &[], length }), [json!({"cut": true})]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described(
            oid in prop_oneof![
                proptest::sample::select(vec![
                    16u32, 17, 18, 20, 21, 23, 700, 701, 1007, 1082, 1083, 1114, 1184, 1186, 1231, 1266, 1700,
                    2950, 3802, 869, 650, 829,
                ]),
                any::<u32>(),
            ],
            value in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..64),
            raw in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..64),
        ) {
            let (types, values) = bound(1, &[(oid, Some(&value))]);
            prop_assert_eq!(described(&types, &values).len(), 1);
            described(&types, &raw);
        }
    }
}

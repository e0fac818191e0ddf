//! Dates in the names of indices: `<logs-{now/d-1M{yyyy.MM|+01:00}}>`. A cluster would work them out when it gets to
//! them, so the proxy does it first, at one moment, and sends what came of it: the name that is decided on.
//!
//! <https://www.elastic.co/docs/reference/elasticsearch/rest-apis/api-conventions#api-date-math-index-names>,
//! <https://docs.opensearch.org/latest/api-reference/common-parameters/>. Read is what of that means the same to every
//! server; the rest is refused: years and numbers of weeks, names of months and of time zones, words in quotes,
//! backslashes, other days than now.

use std::fmt::Write;

use jiff::Span;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::ids::raw_members;
use super::json::Json;
use super::{Path, Wrong};
use crate::model::{Time, limits};

const WRONG: Wrong = Wrong::Bad(
    "a date in an index name must be now with +, -, / and y, M, w, d, h, H, m or s, in a format of y, u, M, d, H, m \
     and s with . - _ between them, and a time zone like Z or +01:00",
);
/// What stands where no other format does.
const FORMAT: &str = "yyyy.MM.dd";
/// Java's farthest, in hours.
const OFFSET_HOURS_MAX: i32 = 18;

/// A comma list with names in the place of dates. `None`: there are no dates in it.
pub(super) fn list(text: &str, now: Time) -> Result<Option<String>, Wrong> {
    if !text.contains('<') {
        return Ok(None);
    }
    let named = text.split(',').map(|part| match part.strip_prefix('-').unwrap_or(part) {
        dated if dated.starts_with('<') => {
            Ok(format!("{}{}", &part[..part.len() - dated.len()], name(dated, now)?))
        }
        _ => Ok(part.to_owned()),
    });
    Ok(Some(named.collect::<Result<Vec<_>, _>>()?.join(",")))
}

/// The heads of an `_msearch`, each with names in the place of dates. `None`: there are no dates in them.
pub(super) fn heads(body: &[u8], now: Time) -> Result<Option<Vec<u8>>, Wrong> {
    if !body.contains(&b'<') {
        return Ok(None);
    }
    let (mut sent, mut is_changed) = (Vec::with_capacity(body.len()), false);
    for (number, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match if number % 2 == 0 { head(line, now)? } else { None } {
            Some(head) => {
                sent.extend(head);
                is_changed = true;
            }
            None => sent.extend_from_slice(line),
        }
    }
    Ok(is_changed.then_some(sent))
}

/// What cannot be read here is refused by who reads it next.
fn head(line: &[u8], now: Time) -> Result<Option<Vec<u8>>, Wrong> {
    if !line.contains(&b'<') || line.len() > limits::HTTP_QUERY_BYTES_MAX {
        return Ok(None);
    }
    // A name that is there twice is not for anybody to choose from.
    let Ok(Json::Object(known)) = Json::parse(line) else { return Ok(None) };
    let names: Vec<&str> = match known.get("index") {
        Some(Json::Text(text)) => vec![text],
        Some(Json::List(texts)) => texts.iter().filter_map(Json::text).collect(),
        _ => return Ok(None),
    };
    if !names.iter().any(|name| name.contains('<')) {
        return Ok(None);
    }
    let named = names.iter().map(|name| Ok(list(name, now)?.unwrap_or_else(|| (*name).to_owned())));
    let named = named.collect::<Result<Vec<String>, Wrong>>()?;
    let written = || {
        let mut members = raw_members(line)?;
        let index = match known.get("index") {
            Some(Json::Text(_)) => serde_json::value::to_raw_value(named.first()?).ok()?,
            _ => serde_json::value::to_raw_value(&named).ok()?,
        };
        members.insert("index".into(), &index);
        let mut head = serde_json::to_vec(&members).ok()?;
        head.push(b'\n');
        Some(head)
    };
    Ok(written())
}

/// A path with names in the place of dates, where names stand. `None`: there are no dates there.
pub(super) fn path(path: &Path, is_name: impl Fn(usize) -> bool, now: Time) -> Result<Option<Path>, Wrong> {
    let (mut dated, mut is_changed) = (path.clone(), false);
    for (_, segment) in dated.segments.iter_mut().enumerate().filter(|(place, _)| is_name(*place)) {
        if let Some(named) = list(segment, now)? {
            *segment = named;
            is_changed = true;
        }
    }
    Ok(is_changed.then_some(dated))
}

/// What one stands for, between `<` and `>`.
fn name(text: &str, now: Time) -> Result<String, Wrong> {
    let mut rest = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).ok_or(WRONG)?;
    if rest.contains(['\\', '<', '>', '\'', '"']) {
        return Err(WRONG);
    }
    let mut name = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(literal(before)?);
        let (date, after) = placeholder(after)?;
        date.write(now, &mut name)?;
        rest = after;
    }
    name.push_str(literal(rest)?);
    Ok(name)
}

fn literal(text: &str) -> Result<&str, Wrong> {
    if text.contains('}') { Err(WRONG) } else { Ok(text) }
}

/// One `{…}`.
struct Date<'a> {
    math: &'a str,
    format: &'a str,
    zone: &'a str,
}

/// Behind its brace, and what stands behind it.
fn placeholder(text: &str) -> Result<(Date<'_>, &str), Wrong> {
    let end = text.find(['{', '}']).ok_or(WRONG)?;
    let (math, rest) = text.split_at(end);
    if let Some(after) = rest.strip_prefix('}') {
        return Ok((Date { math, format: FORMAT, zone: "Z" }, after));
    }
    let (said, after) = rest.get(1..).and_then(|rest| rest.split_once("}}")).ok_or(WRONG)?;
    let (format, zone) = said.split_once('|').unwrap_or((said, "Z"));
    if format.is_empty() || said.contains(['{', '}']) {
        return Err(WRONG);
    }
    Ok((Date { math, format, zone }, after))
}

impl Date<'_> {
    fn write(&self, now: Time, to: &mut String) -> Result<(), Wrong> {
        let mut date = offset(self.zone)?.to_datetime(now);
        let mut math = self.math.strip_prefix("now").ok_or(WRONG)?;
        while let Some(operator) = math.chars().next() {
            (date, math) = step(date, operator, &math[operator.len_utf8()..])?;
        }
        // Years are written otherwise before the first and after the last of these.
        match (1..=9999).contains(&date.year()) {
            true => write(date, self.format, to),
            false => Err(WRONG),
        }
    }
}

/// `Z`, `UTC`, or hours and minutes from it.
fn offset(zone: &str) -> Result<Offset, Wrong> {
    if ["Z", "UTC"].contains(&zone) {
        return Ok(Offset::UTC);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let rest = zone.strip_prefix(['+', '-']).ok_or(WRONG)?;
    let (hours, minutes) = rest.split_once(':').ok_or(WRONG)?;
    let two = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i32>().ok().filter(|_| plain).ok_or(WRONG)
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let fits = minutes < 60 && hours * 60 + minutes <= OFFSET_HOURS_MAX * 60;
    let seconds = sign * (hours * 3_600 + minutes * 60);
    Offset::from_seconds(seconds).ok().filter(|_| fits).ok_or(WRONG)
}

/// `+2d`, `-M` or `/w`, of which the operator has been taken; and what stands behind it.
fn step(date: DateTime, operator: char, text: &str) -> Result<(DateTime, &str), Wrong> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    let number: i64 = match number {
        "" => 1,
        number => i64::from(number.parse::<i32>().map_err(|_| WRONG)?),
    };
    let unit = rest.chars().next().ok_or(WRONG)?;
    let date = match (operator, number) {
        ('/', 1) => round(date, unit),
        ('+', number) => span(number, unit).and_then(|span| date.checked_add(span).ok()),
        ('-', number) => span(number, unit).and_then(|span| date.checked_sub(span).ok()),
        _ => None,
    };
    Ok((date.ok_or(WRONG)?, &rest[unit.len_utf8()..]))
}

fn span(number: i64, unit: char) -> Option<Span> {
    let none = Span::new();
    match unit {
        'y' => none.try_years(number),
        'M' => none.try_months(number),
        'w' => none.try_weeks(number),
        'd' => none.try_days(number),
        'h' | 'H' => none.try_hours(number),
        'm' => none.try_minutes(number),
        's' => none.try_seconds(number),
        _ => return None,
    }
    .ok()
}

fn round(date: DateTime, unit: char) -> Option<DateTime> {
    let day = date.date();
    Some(match unit {
        'y' => day.first_of_year().at(0, 0, 0, 0),
        'M' => day.first_of_month().at(0, 0, 0, 0),
        'w' => {
            let monday = Span::new().try_days(day.weekday().to_monday_zero_offset()).ok()?;
            day.checked_sub(monday).ok()?.at(0, 0, 0, 0)
        }
        'd' => day.at(0, 0, 0, 0),
        'h' | 'H' => day.at(date.hour(), 0, 0, 0),
        'm' => day.at(date.hour(), date.minute(), 0, 0),
        's' => day.at(date.hour(), date.minute(), date.second(), 0),
        _ => return None,
    })
}

fn write(date: DateTime, format: &str, to: &mut String) -> Result<(), Wrong> {
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        let count = rest.len() - rest.trim_start_matches(letter).len();
        let count = count / letter.len_utf8();
        rest = &rest[count * letter.len_utf8()..];
        let value = match letter {
            '.' | '-' | '_' => {
                (0..count).for_each(|_| to.push(letter));
                continue;
            }
            'y' | 'u' if count == 4 => date.year(),
            'M' if count <= 2 => date.month().into(),
            'd' if count <= 2 => date.day().into(),
            'H' if count <= 2 => date.hour().into(),
            'm' if count <= 2 => date.minute().into(),
            's' if count <= 2 => date.second().into(),
            _ => return Err(WRONG),
        };
        write!(to, "{value:0count$}").map_err(|_| WRONG)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn dates_are_worked_out_as_the_documentation_says() {
        // Its own examples, and the ends of things.
        let now = at("2024-03-22T12:00:00Z");
        for (text, named) in [
            ("<logstash-{now/d}>", "logstash-2024.03.22"),
            ("<logstash-{now/M}>", "logstash-2024.03.01"),
            ("<logstash-{now/M{yyyy.MM}}>", "logstash-2024.03"),
            ("<logstash-{now/M-1M{yyyy.MM}}>", "logstash-2024.02"),
            ("<logstash-{now/d{yyyy.MM.dd|+12:00}}>", "logstash-2024.03.23"),
            ("<logstash-{now/d-2d}>,<logstash-{now/d-1d}>,x", "logstash-2024.03.20,logstash-2024.03.21,x"),
            ("<a-{now/w}>", "a-2024.03.18"),
            ("<a-{now/y{uuuu_M_d}}-b-{now/h{HH.mm.ss}}>", "a-2024_1_1-b-12.00.00"),
            ("<a-{now+30m/H{H-m|-05:30}}-*>", "a-7-0-*"),
            ("a*,-<a-{now}>", "a*,-a-2024.03.22"),
            ("<a>", "a"),
        ] {
            assert_eq!(list(text, now).unwrap().as_deref(), Some(named), "{text}");
        }
        assert_eq!(list("a,b*,-c", now), Ok(None));
        let named = |text: &str, now| list(text, at(now)).unwrap().unwrap();
        assert_eq!(named("<a-{now-1M}>", "2024-03-31T00:00:00Z"), "a-2024.02.29");
        assert_eq!(named("<a-{now-1y}>", "2024-02-29T00:00:00Z"), "a-2023.02.28");
        assert_eq!(named("<a-{now/w}>", "2024-01-01T00:00:00Z"), "a-2024.01.01");
        assert_eq!(named("<a-{now/w}>", "2023-01-01T23:59:59Z"), "a-2022.12.26");
        assert_eq!(named("<a-{now/d{yyyy.MM.dd|-00:01}}>", "2024-01-01T00:00:30Z"), "a-2023.12.31");
    }

    #[test]
    fn what_servers_might_read_otherwise_is_refused() {
        for text in [
            "<a-{now/d}",
            "<a-{now/d}}>",
            "<a-{{now/d}>",
            "<a-{now/d{}}>",
            "<a-{now/d{yyyy}>",
            "<a-{now/d{yyyy}x}>",
            "<a-{now/2d}>",
            "<a-{now/}>",
            "<a-{now+}>",
            "<a-{now+1}>",
            "<a-{now*1d}>",
            "<a-{now+1x}>",
            "<a-{now /d}>",
            "<a-{2024-01-01||/d}>",
            "<a-{now+99999999999d}>",
            "<a-{now+2147483647y}>",
            "<a-{now+9000y}>",
            "<a-{now-3000y}>",
            "<a-{now{YYYY.ww}}>",
            "<a-{now{xxxx}}>",
            "<a-{now{MMM}}>",
            "<a-{now{yyyyy}}>",
            "<a-{now{yy}}>",
            "<a-{now{basic_date}}>",
            "<a-{now{'secret'}}>",
            "<a\\{b\\}>",
            "<a-{now{8yyyy}}>",
            "<a-{now{yyyy||MM}}>",
            "<a-{now{yyyy|Europe/Paris}}>",
            "<a-{now{yyyy|+1}}>",
            "<a-{now{yyyy|+18:01}}>",
            "<a-{now{yyyy|}}>",
            "<a-{now{|Z}}>",
            "<>x",
            "<",
            "<a-{now}><b>",
            "<a-{now{yyyy.MM/dd}}>",
            "<a-{NOW}>",
            "<a-{}>",
            "<a-{now{yyyy ü}}>",
            "<a-{now+ü}>",
            "<a-{nowü}>",
        ] {
            assert_eq!(list(text, at("2024-03-22T12:00:00Z")), Err(WRONG), "{text}");
        }
    }

    #[test]
    fn heads_and_paths_are_made_of_names() {
        let now = at("2024-03-22T12:00:00Z");
        let body = "{\"index\":\"<a-{now}>\",\"preference\":\"<p>\"}\n{\"q\":\"<b-{now}>\"}\n{\"index\":[\"c\",\"<d-{now/M}>\"]}\n{}\n{}\n{}\n";
        let sent = "{\"index\":\"a-2024.03.22\",\"preference\":\"<p>\"}\n{\"q\":\"<b-{now}>\"}\n{\"index\":[\"c\",\"d-2024.03.01\"]}\n{}\n{}\n{}\n";
        assert_eq!(heads(body.as_bytes(), now).unwrap().as_deref(), Some(sent.as_bytes()));
        for same in [
            "{}\n{}\n",
            "{}\n{\"q\":\"<\"}\n",
            "{\"index\":\"a\"}\n{\"q\":\"<a>\"}\n",
            "<",
            "{\"index\":\"<a>\",\"index\":\"b\"}\n{}\n",
        ] {
            assert_eq!(heads(same.as_bytes(), now), Ok(None), "{same}");
        }
        assert!(heads(b"{\"index\":\"<a-{now{ww}}>\"}\n{}\n", now).is_err());
        let said = Path::parse("/%3Ca-%7Bnow%2Fd%7D%3E/_doc/%3Cb%3E").unwrap();
        let dated = path(&said, |place| place == 0, now).unwrap().unwrap();
        assert_eq!(dated.segments, ["a-2024.03.22", "_doc", "<b>"]);
        assert_eq!(path(&said, |place| place == 1, now), Ok(None));
    }

    proptest! {
        /// Whatever it is, it comes to no other characters than those that were said, digits, and the signs of formats.
        #[test]
        fn nothing_panics_and_no_words_come_out(text in "<[a{}now/+\\-1yMwdhms|:.Z]{0,24}>") {
            if let Ok(Some(named)) = list(&text, at("2024-03-22T12:00:00Z")) {
                prop_assert!(!named.contains(['<', '>', '{', '}']), "{text} -> {named}");
                prop_assert!(named.chars().all(|c| c.is_ascii_digit() || text.contains(c) || c == '.'), "{text} -> {named}");
            }
        }
    }
}

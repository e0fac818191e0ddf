//! Durations and moments as people write and read them.

use jiff::SignedDuration;

use crate::model::Time;

/// `90s`, `5m`, `2h`, `3d`, `1w`, and combinations from the longest to the shortest: `1h30m`. Whole
/// seconds, at least one.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration; it looks like 90s, 15m, 8h, 3d, 1w or 1h30m");
    let (mut rest, mut total, mut last) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.as_bytes().first() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            _ => return Err(wrong()),
        };
        if unit >= last {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
        (rest, last) = (&tail[1..], unit);
    }
    match total {
        0 => Err(wrong()),
        total => Ok(total),
    }
}

/// A moment for `clap`: an absolute time. `2026-11-22T08:00:00Z`, or with an offset.
pub fn parse_time(text: &str) -> Result<Time, String> {
    text.trim()
        .parse::<Time>()
        .map_err(|_| format!("{text:?} is no time; it looks like 2026-11-22T08:00:00Z"))
}

/// A moment in the past: absolute, or so long ago (`15m`).
pub fn parse_past(text: &str) -> Result<Time, String> {
    match parse_duration(text) {
        Ok(seconds) => shift(Time::now(), seconds, -1),
        Err(_) => parse_time(text).map_err(|_| either(text)),
    }
}

/// A moment to come: absolute, or in so long (`15m`).
pub fn parse_future(text: &str) -> Result<Time, String> {
    match parse_duration(text) {
        Ok(seconds) => shift(Time::now(), seconds, 1),
        Err(_) => parse_time(text).map_err(|_| either(text)),
    }
}

fn either(text: &str) -> String {
    format!("{text:?} is neither a time, such as 2026-11-22T08:00:00Z, nor a duration, such as 15m")
}

fn shift(now: Time, seconds: u64, sign: i64) -> Result<Time, String> {
    let seconds = i64::try_from(seconds).map_err(|_| "that is too long".to_owned())?;
    now.checked_add(SignedDuration::from_secs(sign * seconds)).map_err(|_| "that is too long".to_owned())
}

/// `2026-11-22 10:31:07Z`.
pub fn show(time: Time) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `2026-11-22 10:31:07.123Z`, as the trail's lines are read.
pub fn show_millis(time: Time) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

/// `in 1m54s`, `3h2m ago`, `now`.
pub fn relative(time: Time, now: Time) -> String {
    match time.as_second() - now.as_second() {
        0 => "now".to_owned(),
        ahead @ 1.. => format!("in {}", span(ahead.unsigned_abs())),
        ago => format!("{} ago", span(ago.unsigned_abs())),
    }
}

/// `2026-11-22 10:31:07Z, in 1m54s`.
pub fn show_both(time: Time, now: Time) -> String {
    format!("{}, {}", show(time), relative(time, now))
}

/// The two largest units of a duration: `1h30m`, `54s`, `2d`.
pub fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, unit) in units {
        if rest >= unit || (unit == 1 && parts.is_empty()) {
            parts.push((unit, format!("{}{name}", rest / unit)));
            rest %= unit;
        }
    }
    // A unit further down than the next one says nothing that matters: 2d and 5s are two days.
    let smallest = match parts.first() {
        Some((86_400, _)) => 3_600,
        Some((3_600, _)) => 60,
        _ => 1,
    };
    parts.into_iter().filter(|(unit, _)| *unit >= smallest).map(|(_, text)| text).collect()
}

/// `3 ms`, `1.20 s`: a measured duration.
pub fn measured(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("2h", 7_200), ("3d", 259_200), ("1w", 604_800), ("1h30m", 5_400)]
        {
            assert_eq!(parse_duration(text), Ok(seconds));
        }
        for bad in ["", "5", "m", "5x", "30m1h", "1h1h", "-5m", "0s", "1.5h", "5 m", "99999999999999999999w"]
        {
            assert!(parse_duration(bad).unwrap_err().contains("is no duration"), "{bad}");
        }
    }

    #[test]
    fn moments_are_absolute_or_relative() {
        assert_eq!(parse_time("2026-11-22T09:00:00+01:00"), Ok(at("2026-11-22T08:00:00Z")));
        assert!(parse_time("2026-11-22 08:00").is_err());
        assert!(parse_past("15m").unwrap() < Time::now());
        assert!(parse_future("15m").unwrap() > Time::now());
        assert!(parse_past("yesterday").unwrap_err().contains("neither"));
        assert!(parse_past("9999999w").is_err());
    }

    #[test]
    fn spans_show_what_matters() {
        for (seconds, text) in [
            (0, "0s"),
            (54, "54s"),
            (114, "1m54s"),
            (120, "2m"),
            (3_605, "1h"),
            (5_400, "1h30m"),
            (172_805, "2d"),
            (180_000, "2d2h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        let now = at("2026-11-22T10:29:13Z");
        assert_eq!(show_both(at("2026-11-22T10:31:07Z"), now), "2026-11-22 10:31:07Z, in 1m54s");
        assert_eq!(relative(at("2026-11-22T10:29:03.9Z"), now), "10s ago");
        assert_eq!(show_millis(at("2026-11-22T10:29:03.9Z")), "2026-11-22 10:29:03.900Z");
    }

    #[test]
    fn measured_times_have_a_unit() {
        assert_eq!(
            [7, 3_210, 42_000, 1_204_000].map(measured),
            ["7 µs", "3.2 ms", "42 ms", "1.20 s"].map(str::to_owned)
        );
    }
}

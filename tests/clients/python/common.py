"""What the programs in this folder share: they print what they see, one line each, and nothing that
differs from run to run. The connection is described by libpq's environment variables."""

import decimal
import hashlib
import threading


def show(name, value):
    print(f"{name}: {value!r}", flush=True)


def digest(data):
    """Long values by their length and sum."""
    if isinstance(data, str):
        data = data.encode()
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def plain(value):
    """Numbers in one form, whatever the wire format was."""
    return str(value) if isinstance(value, (decimal.Decimal, memoryview)) else value


def after(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


TYPES = """select true as a, 1::int2 as b, -2::int4 as c, 3::int8 as d, 1.5::float4 as e, -2.25::float8 as f,
    12345.678900::numeric as g, 'ä''\\ \u20ac'::text as h, 'x'::char(3) as i, '\\xdeadbeef00'::bytea as j,
    date '2026-02-28' as k, timestamp '2026-02-28 12:34:56.789' as l, timestamptz '2026-02-28 12:34:56+02' as m,
    interval '1 day 02:03:04' as n, uuid '12345678-1234-5678-1234-567812345678' as o,
    '{"a": [1, null]}'::jsonb as p, array[1, null, 3] as q, array['a', 'b"c', null] as r,
    inet '10.1.2.3/8' as s, int4range(1, 10) as t, null::text as u, time '23:59:59.5' as v,
    row(1, 'x') as w, '<a/>'::xml as x, point(1, 2) as y, 'infinity'::float8 as z"""

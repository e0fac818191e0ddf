"""Where the programs for MySQL and MariaDB connect: the server that the environment describes."""

import os
import tempfile

HOST = os.environ["DB_HOST"]
PORT = int(os.environ["DB_PORT"])
USER = os.environ["DB_USER"]
PASSWORD = os.environ["DB_PASSWORD"]
NAME = os.environ["DB_NAME"]
CA = os.environ.get("DB_CA")

TYPES = """select 1 as a, -2 as b, 3000000000 as c, 1.5e0 as d, cast(12345.678900 as decimal(20,6)) as e,
    'ä''\\\\ \u20ac' as f, x'deadbeef00' as g, date '2026-02-28' as h, timestamp '2026-02-28 12:34:56.789' as i,
    time '23:59:59.5' as j, null as k, cast('x' as char(3)) as l, b'101' as m,
    cast(18446744073709551615 as unsigned) as n, true as o, '' as p"""

TABLE = """create table work (id int primary key, name varchar(200), price decimal(10,2), at datetime(6),
    data blob, big bigint unsigned) character set utf8mb4"""


def a_file(lines):
    """The name of a file with these lines, for LOAD DATA LOCAL."""
    file = tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False)
    file.write("".join(lines))
    file.close()
    return file.name

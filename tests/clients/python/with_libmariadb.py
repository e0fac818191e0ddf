"""MariaDB's C library by itself: mysql_change_user and mysql_reset_connection, as programs in C and PHP call them."""

import ctypes
import sys

from common import show
from mysql_common import CA, HOST, NAME, PASSWORD, PORT, USER

OPT_COMPRESS, OPT_PROTOCOL, PROTOCOL_TCP = 1, 9, 1
LIBRARY = ctypes.CDLL("libmariadb.so.3")
for name, result, arguments in (
    ("mysql_init", "p", "p"),
    ("mysql_ssl_set", "i", "pssssp"),
    ("mysql_options", "i", "pip"),
    ("mysql_real_connect", "p", "pssssIpL"),
    ("mysql_change_user", "i", "psss"),
    ("mysql_reset_connection", "i", "p"),
    ("mysql_ping", "i", "p"),
    ("mysql_real_query", "i", "psL"),
    ("mysql_store_result", "p", "p"),
    ("mysql_num_fields", "I", "p"),
    ("mysql_fetch_row", "R", "p"),
    ("mysql_free_result", None, "p"),
    ("mysql_errno", "I", "p"),
    ("mysql_thread_id", "L", "p"),
    ("mysql_close", None, "p"),
):
    kinds = {
        "p": ctypes.c_void_p,
        "i": ctypes.c_int,
        "I": ctypes.c_uint,
        "L": ctypes.c_ulong,
        "s": ctypes.c_char_p,
        "R": ctypes.POINTER(ctypes.c_char_p),
    }
    function = getattr(LIBRARY, name)
    function.restype = kinds[result] if result else None
    function.argtypes = [kinds[kind] for kind in arguments]


class Connection:
    def __init__(self, compress):
        self.handle = LIBRARY.mysql_init(None)
        # To this library localhost is a socket of its own.
        LIBRARY.mysql_options(self.handle, OPT_PROTOCOL, ctypes.byref(ctypes.c_uint(PROTOCOL_TCP)))
        if CA:
            LIBRARY.mysql_ssl_set(self.handle, None, None, CA.encode(), None, None)
        if compress:
            LIBRARY.mysql_options(self.handle, OPT_COMPRESS, None)
        words = (text.encode() for text in (HOST, USER, PASSWORD, NAME))
        if not LIBRARY.mysql_real_connect(self.handle, *words, PORT, None, 0):
            raise SystemExit(f"no connection: {LIBRARY.mysql_errno(self.handle)}")

    def ask(self, text):
        text = text.encode()
        if LIBRARY.mysql_real_query(self.handle, text, len(text)):
            return f"error {LIBRARY.mysql_errno(self.handle)}"
        result = LIBRARY.mysql_store_result(self.handle)
        if not result:
            return "done"
        rows = []
        while row := LIBRARY.mysql_fetch_row(result):
            rows.append([row[i] and row[i].decode() for i in range(LIBRARY.mysql_num_fields(result))])
        LIBRARY.mysql_free_result(result)
        return rows

    def change(self, user, password, database):
        words = (text and text.encode() for text in (user, password, database))
        failed = LIBRARY.mysql_change_user(self.handle, *words)
        return LIBRARY.mysql_errno(self.handle) if failed else "changed"


def main():
    for compress in (False, True):
        show("compressed", compress)
        conn = Connection(compress)
        number = LIBRARY.mysql_thread_id(conn.handle)
        for _ in range(3):
            show("variable", conn.ask("set @mine = 7, sql_mode = '', autocommit = 0"))
            show("temporary", conn.ask("create temporary table mine (id int)"))
            show("insert", conn.ask("update items set name = 'mine' where id = 7"))
            show("change", conn.change(USER, PASSWORD, NAME))
            show("gone", conn.ask("select @mine, @@sql_mode <> '', @@autocommit, database() is not null"))
            show("gone too", conn.ask("select * from mine"))
            show("rolled back", conn.ask("select name from items where id = 7"))
            show("large", len(conn.ask("select repeat('x', 3000000)")[0][0]))
        show("the same number", LIBRARY.mysql_thread_id(conn.handle) == number)
        show("reset", LIBRARY.mysql_reset_connection(conn.handle))
        show("ping", LIBRARY.mysql_ping(conn.handle))
        show("wrong", conn.change(USER, "wrong", NAME))
        LIBRARY.mysql_close(conn.handle)


if __name__ == "__main__":
    sys.exit(main())

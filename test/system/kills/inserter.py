"""
A SQLite of the kill test: inserts numbered rows into rows.sqlite in its working directory, in WAL mode with synchronous=FULL, one
transaction each, until its standard input ends.
Keeps: the numbers that SQLite has acknowledged stand in LOG, outside the mount. At its start, and its end, what is in the database is
  what LOG says and at most one row more, whose commit was not answered.
Arguments: LOG MODE (strict or torn, as for writer.py). It prints {"operations", "errors", "end"}.
"""
import json
import os
import select
import sqlite3
import sys

log, mode = sys.argv[1:]


def acknowledged():
    if not os.path.exists(log):
        return 0
    with open(log) as lines:
        return int(lines.read().split()[-1])


def check(database):
    """Returns how many rows there are."""
    count, last = database.execute("SELECT count(*), coalesce(max(n), 0) FROM t").fetchone()
    said = acknowledged()
    if count != last or count not in (said, said + 1):
        os.statvfs(".")  # fails when the mount is gone: SQLite goes by the path, where another folder is then
        raise AssertionError(f"{count} rows up to {last}, {said} acknowledged")
    if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        raise AssertionError("integrity_check")
    return count


def insert():
    database = sqlite3.connect("rows.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, b BLOB)")
    first = number = check(database)
    with open(log, "a") as lines:
        print(number, file=lines, flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            database.execute("INSERT INTO t VALUES (?, randomblob(2000))", (number + 1,))
            number += 1
            print(number, file=lines, flush=True)
            if number % 50 == 0:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    check(database)
    return number - first


try:
    result = {"operations": insert(), "errors": 0, "end": None}
except (sqlite3.OperationalError, OSError) as error:
    if mode == "strict":
        raise
    result = {"operations": 0, "errors": 0, "end": str(error)}
print(json.dumps(result))

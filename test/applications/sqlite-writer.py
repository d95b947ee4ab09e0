"""
A writer of the SQLite test: COUNT transactions into DATABASE, each a transfer between two accounts and a line of its own.
Keeps: the sum of all accounts is 0 after every transaction, its own too: it looks before each.
"""
import random
import sqlite3
import sys

database, mode, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
connection = sqlite3.connect(database, timeout=120, isolation_level=None)
assert connection.execute(f'pragma journal_mode={mode}').fetchone() == (mode,)
for number in range(count):
    connection.execute('begin immediate')
    assert connection.execute('select sum(balance) from accounts').fetchone() == (0,)
    amount, source, target = random.randrange(1000), random.randrange(100), random.randrange(100)
    connection.execute('update accounts set balance = balance - ? where id = ?', (amount, source))
    connection.execute('update accounts set balance = balance + ? where id = ?', (amount, target))
    connection.execute('insert into log values (?, ?, randomblob(?))', (name, number, random.randrange(5000)))
    connection.execute('commit')
    print(number, flush=True)

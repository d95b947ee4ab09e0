"""
A process of the LMDB test: ROUNDS transactions in DATABASE, each of which counts one up and writes values by hash.
Keeps: values are derived from their keys, so whoever reads can tell a wrong one; WRITEMAP 1 writes through a shared mapping; with a
  fifth argument `hold` the process says so and waits in one transaction more, until it is killed.
"""
import hashlib
import random
import signal
import sys

import lmdb

database, name, rounds, write_map = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == '1'


def value(key):
    return hashlib.sha512(key).digest() * (1 + key[-1])


environment = lmdb.open(database, map_size=256 << 20, writemap=write_map, sync=True)
is_holding = sys.argv[5:] == ['hold']
for number in range(rounds + is_holding):
    with environment.begin(write=True) as transaction:
        total = int(transaction.get(b'total', b'0')) + 1
        transaction.put(b'total', b'%d' % total)
        transaction.put(b'rounds of %s' % name.encode(), b'%d' % (number + 1))
        for _ in range(10):
            key = b'key %d' % random.randrange(20_000)
            if random.random() < 0.3:
                transaction.delete(key)
            else:
                transaction.put(key, value(key))
        if number == rounds:
            print('holding', flush=True)
            signal.pause()
    print(number, flush=True)
    with environment.begin() as transaction:
        for key, found in transaction.cursor().iternext():
            if key.startswith(b'key ') and random.random() < 0.05:
                assert found == value(key), key
environment.close()

"""Applications whose files show whether a snapshot is one moment. Arguments: what to do, a directory of the volume, a progress
file outside, a file whose appearance ends it. The progress file holds how far it has come, written after the step is done.

counters  file N mod 40 gets the number N, opened, written and closed: of all files together, the order is seen
held      file N mod 8 gets the number N by write(2) only: it stays open and is never synced
pairs     two files, and two directories with a file each, are swapped by RENAME_EXCHANGE
hashes    a file is written under another name, then renamed to its hash; the oldest of 30 is removed
"""
import ctypes
import hashlib
import itertools
import os
import sys

what, directory, progress, stop = sys.argv[1:5]
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def swap(one, other):
    if libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), 'renameat2')


def put(path, content):
    with open(path, 'wb') as file:
        file.write(content)


def counters(number):
    put(f'c{number % 40}', b'%020d' % number)


def held(number, files={}):
    name = f'h{number % 8}'
    if name not in files:
        files[name] = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
    os.pwrite(files[name], b'%020d' % number, 0)


def pairs(number):
    if number == 0:
        for name in ('a', 'b'):
            put(name, name.encode())
            os.mkdir('d' + name)
            put(f'd{name}/name', name.encode())
        return
    swap('a', 'b')
    swap('da', 'db')


def hashes(number, made=[]):
    content = os.urandom(1 + int.from_bytes(os.urandom(2), 'big') // 3)
    put('temporary', content)
    made.append(hashlib.sha256(content).hexdigest())
    os.rename('temporary', made[-1])
    if len(made) > 30:
        os.unlink(made.pop(0))


os.mkdir(directory)
os.chdir(directory)
step = {'counters': counters, 'held': held, 'pairs': pairs, 'hashes': hashes}[what]
with open(progress, 'wb', buffering=0) as file:
    for number in itertools.count():
        step(number)
        os.pwrite(file.fileno(), b'%020d' % number, 0)
        if os.path.exists(stop):
            break

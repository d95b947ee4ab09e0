"""
A writer of the kill test: creates, appends, renames, links, deletes and fsyncs in FOLDER until its standard input ends.
Keeps: what was acknowledged stands in its manifest, one JSON line after each operation; any error ends it with its traceback.
Arguments: FOLDER (on the mount) MANIFEST (outside) SEED.
"""
import hashlib
import json
import os
import random
import select
import sys

folder, manifest, seed = sys.argv[1], open(sys.argv[2], "w"), int(sys.argv[3])
chance = random.Random(seed)
contents = {}


def path(name):
    return os.path.join(folder, name)


def note(name):
    """What this name holds from now on; None when it is gone."""
    content = contents.get(name)
    entry = None if content is None else [len(content), hashlib.sha256(content).hexdigest()]
    print(json.dumps([name, entry]), file=manifest, flush=True)


def some_bytes():
    return chance.randbytes(chance.choice([10, 1000, 5000, 70_000, 300_000]))


def save(name, flags, data, offset):
    fd = os.open(path(name), os.O_WRONLY | flags, 0o644)
    try:
        at = 0
        while at < len(data):
            at += os.pwrite(fd, data[at:], offset + at)
        os.fsync(fd)
    finally:
        os.close(fd)


def create(number):
    name, data = f"file-{number}", some_bytes()
    save(name, os.O_CREAT | os.O_EXCL, data, 0)
    contents[name] = data
    note(name)


def append(name):
    data = some_bytes()
    save(name, 0, data, len(contents[name]))
    contents[name] += data
    note(name)


def overwrite(name):
    old, data = contents[name], some_bytes()
    offset = chance.randrange(len(old))
    save(name, 0, data, offset)
    contents[name] = old[:offset] + data + old[offset + len(data) :]
    note(name)


def rename(name, number):
    new = f"renamed-{number}"
    os.rename(path(name), path(new))
    contents[new] = contents.pop(name)
    note(name)
    note(new)


def replace(name, other):
    os.rename(path(name), path(other))
    contents[other] = contents.pop(name)
    note(name)
    note(other)


def remove(name):
    os.unlink(path(name))
    del contents[name]
    note(name)


def directory(number):
    name = path(f"directory-{number}")
    os.mkdir(name)
    os.symlink("target", os.path.join(name, "link"))
    os.setxattr(name, "user.number", b"%d" % number, os.XATTR_CREATE)
    os.unlink(os.path.join(name, "link"))
    os.removexattr(name, "user.number")
    os.rmdir(name)


def verify(name):
    with open(path(name), "rb") as file:
        if file.read() != contents[name]:
            raise AssertionError(f"{name}: another content than was written")


number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    known = sorted(contents)
    work = chance.randrange(8) if len(known) > 5 else 0
    if len(known) > 60:
        work = 4
    if work == 0:
        create(number)
    elif work == 1:
        append(chance.choice(known)) if len(contents[known[0]]) < 1_000_000 else overwrite(chance.choice(known))
    elif work == 2:
        overwrite(chance.choice(known))
    elif work == 3:
        rename(chance.choice(known), number)
    elif work == 4:
        remove(chance.choice(known))
    elif work == 5:
        replace(*chance.sample(known, 2))
    elif work == 6:
        directory(number)
    else:
        verify(chance.choice(known))
print(number)

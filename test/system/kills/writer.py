"""
A writer of the kill test: creates, appends, renames, links, deletes and fsyncs in its working directory until its standard input ends.
Keeps: its manifest has a line before each operation, of what it may leave, and one after it, of what is acknowledged.
Arguments: MANIFEST (outside the mount) SEED MODE, which says what an error is:
  strict: the end, with a traceback.   lossy: EIO may be: the names of the operation are removed, and the writer goes on.
  torn: ENOTCONN and its like may be: the mount is gone, the writer ends in order.
It prints {"operations", "errors", "end"}. What it finds there at the start, it takes for its own.

A line of the manifest is {"intend": {NAME: STATE, ...}} or {"done": {NAME: STATE, ...}}. A STATE is null (no such name), [size,
sha256], or while data is written {"outside": [from, to, sha256]}: what the file has before `from` and after `to`; null: no end.
"""
import errno
import hashlib
import json
import os
import random
import select
import sys

manifest_path, seed, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
chance = random.Random(seed)
contents = {}

LOST = {"strict": [], "lossy": [errno.EIO], "torn": []}[mode]
GONE = [errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV] if mode == "torn" else []


def hashed(*parts):
    return hashlib.sha256(b"".join(parts)).hexdigest()


def state(name):
    content = contents.get(name)
    return None if content is None else [len(content), hashed(content)]


def log(kind, states):
    print(json.dumps({kind: states}), file=manifest, flush=True)


def done(*names):
    log("done", {name: state(name) for name in names})


def some_bytes():
    return chance.randbytes(chance.choice([10, 1000, 5000, 70_000, 300_000]))


def save(name, flags, data, offset):
    old = contents.get(name, b"")
    end = None if offset == len(old) else offset + len(data)
    log("intend", {name: {"outside": [offset, end, hashed(old[:offset], b"" if end is None else old[end:])]}})
    fd = os.open(name, os.O_WRONLY | flags, 0o644)
    try:
        at = 0
        while at < len(data):
            at += os.pwrite(fd, data[at:], offset + at)
        os.fsync(fd)
    finally:
        os.close(fd)
    contents[name] = old[:offset] + data + old[offset + len(data) :]
    done(name)


def create(name):
    save(name, os.O_CREAT | os.O_EXCL, some_bytes(), 0)


def append(name):
    save(name, 0, some_bytes(), len(contents[name]))


def overwrite(name):
    save(name, 0, some_bytes(), chance.randrange(len(contents[name]) + 1))


def rename(name, new):
    """To a new name, or over another file."""
    log("intend", {name: None, new: state(name)})
    os.rename(name, new)
    contents[new] = contents.pop(name)
    done(name, new)


def remove(name):
    log("intend", {name: None})
    os.unlink(name)
    del contents[name]
    done(name)


def directory(name):
    os.mkdir(name)
    os.symlink("target", os.path.join(name, "link"))
    os.setxattr(name, "user.number", b"1", os.XATTR_CREATE)
    os.unlink(os.path.join(name, "link"))
    os.removexattr(name, "user.number")
    os.rmdir(name)


def verify(name):
    with open(name, "rb") as file:
        if file.read() != contents[name]:
            raise AssertionError(f"{name}: another content than was written")


def choose(number):
    """One operation, with the names that it is about."""
    known = sorted(contents)
    work = chance.randrange(8) if len(known) > 5 else 0
    if len(known) > 60:
        work = 4
    if work == 0:
        return create, [f"file-{seed}-{number}"]
    if work == 1:
        name = chance.choice(known)
        return (append if len(contents[name]) < 1_000_000 else overwrite), [name]
    if work == 2:
        return overwrite, [chance.choice(known)]
    if work == 3:
        return rename, [chance.choice(known), f"renamed-{seed}-{number}"]
    if work == 4:
        return remove, [chance.choice(known)]
    if work == 5:
        return rename, chance.sample(known, 2)
    if work == 6:
        return directory, [f"directory-{seed}-{number}"]
    return verify, [chance.choice(known)]


def until_known(call, *args):
    """An error says that the request was lost, so it is sent again; what is not there is as good."""
    while True:
        try:
            return call(*args)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in LOST:
                raise


def discard(names):
    """After an error: nobody knows what these names hold."""
    for name in names:
        if name.startswith("directory-"):
            until_known(os.unlink, os.path.join(name, "link"))
            until_known(os.rmdir, name)
        else:
            until_known(os.unlink, name)
            contents.pop(name, None)
    done(*(name for name in names if not name.startswith("directory-")))


def work_on():
    """Returns what ended it, and how much was done."""
    number = errors = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        number += 1
        operation, names = choose(number)
        try:
            operation(*names)
        except OSError as error:
            if error.errno in GONE:
                return {"operations": number, "errors": errors, "end": errno.errorcode[error.errno]}
            if error.errno not in LOST:
                raise
            errors += 1
            discard(names)
    return {"operations": number, "errors": errors, "end": None}


try:
    for entry in os.scandir():
        if entry.is_file():
            with open(entry.path, "rb") as file:
                contents[entry.name] = file.read()
    manifest = open(manifest_path, "w")  # until now that of an earlier writer holds
    done(*contents)
    result = work_on()
except OSError as error:
    if error.errno not in GONE:
        raise
    result = {"operations": 0, "errors": 0, "end": errno.errorcode[error.errno]}
print(json.dumps(result))

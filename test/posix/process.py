"""
One process of the POSIX tests: makes the system calls it is asked for, one JSON line each, and holds what they return.
Keeps: a string is bytes, one character a byte (latin-1), both ways; a call that fails answers with the name of its errno.
Leaves: what ought to happen to the cases. Its first argument says who it is: {"uid", "gid", "groups", "umask"}.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import traceback

AT_FDCWD = -100
BILLION = 1_000_000_000
c = ctypes.CDLL(None, use_errno=True)
c.mmap.restype = ctypes.c_long
sockets = {}


def libc(name, *args):
    """Calls a function of libc: whole numbers as long, bytes and buffers as pointers. A result below 0 is an OSError."""
    result = getattr(c, name)(*(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def at(path):
    """A path or a descriptor as the first two arguments of a *at call."""
    return (path, None) if isinstance(path, int) else (AT_FDCWD, path)


def stat(path, follow=True):
    s = os.stat(path) if isinstance(path, int) else os.stat(path, follow_symlinks=follow)
    times = {name: list(divmod(getattr(s, f"st_{name}_ns"), BILLION)) for name in ("atime", "mtime", "ctime")}
    return {name: getattr(s, f"st_{name}") for name in "dev ino mode nlink uid gid rdev size blocks blksize".split()} | times


def statvfs(path):
    s = os.statvfs(path)
    return {name: getattr(s, f"f_{name}") for name in "bsize frsize blocks bfree bavail files ffree namemax".split()}


def put(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def utimensat(path, atime, mtime, flags=0):
    libc("utimensat", *at(path), struct.pack("4q", *atime, *mtime), flags)


def getdents(fd, size=32768):
    """The next entries of a directory; `cookie` is where lseek leads on from."""
    buffer = ctypes.create_string_buffer(size)
    length, entries, begin = libc("getdents64", fd, buffer, size), [], 0
    while begin < length:
        ino, cookie, record, kind = struct.unpack_from("=QqHB", buffer, begin)
        name = buffer.raw[begin + 19 : begin + record].split(b"\0")[0]
        entries.append({"name": name, "ino": ino, "cookie": str(cookie), "type": kind})
        begin += record
    return entries


def getxattr_sized(path, name, size):
    return libc("getxattr", path, name, ctypes.create_string_buffer(size) if size else None, size)


def listxattr_sized(path, size):
    return libc("listxattr", path, ctypes.create_string_buffer(size) if size else None, size)


def name_to_handle(path):
    """struct file_handle: bytes, type, then the handle itself."""
    handle = ctypes.create_string_buffer(struct.pack("Ii128x", 128, 0))
    libc("name_to_handle_at", AT_FDCWD, path, handle, ctypes.byref(ctypes.c_int()), 0)
    return handle.raw[: 8 + struct.unpack_from("I", handle)[0]]


def open_by_handle(mount_fd, handle, flags):
    return libc("open_by_handle_at", mount_fd, ctypes.create_string_buffer(handle), flags)


def lock(fd, command, kind, start, length):
    """fcntl(2) with a struct flock; returns what the kernel leaves in it."""
    answer = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    kind, _, start, length, pid = struct.unpack("hhqqi4x", answer)
    return {"type": kind, "start": start, "length": length, "pid": pid}


def aligned(data):
    """The same bytes where O_DIRECT can take them."""
    buffer = mmap.mmap(-1, len(data))
    buffer.write(data)
    return buffer


def pread_direct(fd, size, offset):
    buffer = mmap.mmap(-1, size)
    return buffer[: os.preadv(fd, [buffer], offset)]


def bind(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    sockets[listener.fileno()] = listener
    return listener.fileno()


def accept(number):
    connection, _ = sockets[number].accept()
    with connection:
        return connection.recv(4096)


def connect(path, data):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.send(data)


def make(folder, prefix, first, last):
    """Makes the files PREFIX-first … PREFIX-last, numbers in six digits."""
    for number in range(first, last):
        os.mknod(b"%s/%s-%06d" % (folder, prefix, number), 0o100644)


def make_links(path, folder, prefix, first, last):
    for number in range(first, last):
        os.link(path, b"%s/%s-%06d" % (folder, prefix, number))


def unmake(folder, prefix, first, last):
    for number in range(first, last):
        os.unlink(b"%s/%s-%06d" % (folder, prefix, number))


def append_lines(path, text, count):
    """Appends `count` lines, one write(2) each."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for number in range(count):
        os.write(fd, b"%s %d\n" % (text, number))
    os.close(fd)


def wait_tick():
    """Returns when the clock that the kernel stamps inodes with has passed this moment; it moves every few ms."""
    begin = time.clock_gettime(time.CLOCK_REALTIME)
    while time.clock_gettime(5) <= begin:  # CLOCK_REALTIME_COARSE
        pass


def execute(program, *args):
    done = subprocess.run([program, *args], capture_output=True, stdin=subprocess.DEVNULL)
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


calls = {
    # what `os` has as it is
    **{
        name: getattr(os, name)
        for name in """
        open close read write pread pwrite lseek dup fsync fdatasync ftruncate truncate mkdir rmdir unlink symlink readlink rename
        chmod chown lchown mkfifo mknod makedev umask chdir access listdir posix_fallocate getpid geteuid
        """.split()
    },
    "stat": stat,
    "lstat": lambda path: stat(path, False),
    "statvfs": statvfs,
    "put": put,
    "get": get,
    "link": lambda path, new, flags=0: libc("linkat", AT_FDCWD, path, AT_FDCWD, new, flags),
    "linkFd": lambda fd, new: libc("linkat", fd, b"", AT_FDCWD, new, 0x1000),  # AT_EMPTY_PATH
    "renameat2": lambda path, new, flags: libc("renameat2", AT_FDCWD, path, AT_FDCWD, new, flags),
    "utimensat": utimensat,
    "getdents": getdents,
    "seekdir": lambda fd, cookie: os.lseek(fd, int(cookie), os.SEEK_SET) and None,
    "syncfs": lambda fd: libc("syncfs", fd),
    # extended attributes
    "setxattr": os.setxattr,
    "lsetxattr": lambda path, name, value: os.setxattr(path, name, value, follow_symlinks=False),
    "getxattr": os.getxattr,
    "lgetxattr": lambda path, name: os.getxattr(path, name, follow_symlinks=False),
    "listxattr": lambda path: sorted(os.listxattr(path)),
    "llistxattr": lambda path: sorted(os.listxattr(path, follow_symlinks=False)),
    "removexattr": os.removexattr,
    "getxattrSized": getxattr_sized,
    "listxattrSized": listxattr_sized,
    # space
    "fallocate": lambda fd, mode, offset, length: libc("fallocate", fd, mode, offset, length),
    "copyFileRange": lambda source, target, count, from_, to: os.copy_file_range(source, target, count, from_, to),
    "ficlone": lambda target, source: fcntl.ioctl(target, 0x40049409, source),
    "preadDirect": pread_direct,
    "pwriteDirect": lambda fd, data, offset: os.pwritev(fd, [aligned(data)], offset),
    "limitFileSize": lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    # file handles
    "nameToHandle": name_to_handle,
    "openByHandle": open_by_handle,
    # locks
    "flock": fcntl.flock,
    "lock": lock,
    # mappings
    "mmap": lambda fd, length, flags, protection: libc("mmap", None, length, protection, flags, fd, 0),
    "peek": lambda address, length: ctypes.string_at(address, length),
    "poke": lambda address, data: ctypes.memmove(address, data, len(data)) and None,
    "msync": lambda address, length: libc("msync", address, length, 4),  # MS_SYNC
    "munmap": lambda address, length: libc("munmap", address, length),
    # sockets
    "bind": bind,
    "accept": accept,
    "connect": connect,
    # much at once
    "make": make,
    "makeLinks": make_links,
    "unmake": unmake,
    "appendLines": append_lines,
    # the world around
    "waitTick": wait_tick,
    "exec": execute,
}


def to_bytes(value):
    return value.encode("latin-1") if isinstance(value, str) else value


def to_json(value):
    """bytes become strings, wherever they are; what JSON cannot say is a mistake of ours."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return os.fsencode(value).decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


# Two names of one number: the one that the man pages use.
names = errno.errorcode | {errno.EAGAIN: "EAGAIN", errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK"}


def answer(request):
    try:
        return {"value": to_json(calls[request["call"]](*map(to_bytes, request["args"])))}
    except OSError as error:
        return {"errno": names[error.errno], "message": str(error)}
    except Exception:
        return {"fault": traceback.format_exc()}


def become(who):
    """Root first gives up its groups, then itself; /proc/self must stay readable, for linkat of a descriptor."""
    os.umask(who["umask"])
    if who["uid"] != 0:
        os.setgroups(who["groups"])
        os.setresgid(*[who["gid"]] * 3)
        os.setresuid(*[who["uid"]] * 3)
        c.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


become(json.loads(sys.argv[1]))
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)

"""
The two trees of the exerciser: system calls that Python lacks, calling both trees alike, comparing what they hold.
Keeps: index 0 is the host filesystem, whose answer is taken for right, index 1 the volume; whatever differs raises Difference.
Leaves: which call comes next to exerciser.py.
"""
import ctypes
import errno
import os
import stat

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

# linux/falloc.h
KEEP_SIZE = 1
PUNCH_HOLE = 2
ZERO_RANGE = 16

# linux/fs.h
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

AT_FDCWD = -100


class Difference(Exception):
    """The two trees answered differently or hold different things."""


def checked(result):
    """The result of a libc call, or its errno as OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fallocate(fd, mode, offset, length):
    """fallocate(2)."""
    checked(libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    """renameat2(2), from and to the working directory."""
    checked(libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def syncfs(path):
    """syncfs(2) of the filesystem that holds `path`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        checked(libc.syncfs(fd))
    finally:
        os.close(fd)


def copy_range(source, target, offset, length, to):
    """copy_file_range(2) until all is copied or the source ends; returns how many bytes."""
    done = 0
    while done < length:
        count = os.copy_file_range(source, target, length - done, offset + done, to + done)
        if count == 0:
            break
        done += count
    return done


def both(call, what):
    """Calls host and volume; their results, or errnos, must be equal. Returns the host's results, or None after an error."""
    outcomes = [outcome(call, index) for index in (0, 1)]
    if outcomes[0] != outcomes[1]:
        raise Difference(f'{what}: the host answers {shown(outcomes[0])}, the volume {shown(outcomes[1])}')
    return outcomes[0][1] if outcomes[0][0] == 'ok' else None


def outcome(call, index):
    """('ok', result) or ('error', name of the errno)."""
    try:
        return ('ok', call(index))
    except OSError as error:
        return ('error', errno.errorcode.get(error.errno or 0, str(error)))


def shown(result):
    """An outcome, short enough for a line."""
    text = f'{result[1]!r}'
    return text if len(text) < 200 else f'{text[:200]}…'


def compare_bytes(host, volume, start, what):
    """Fails with the first byte that differs; `start` is the offset of both pieces."""
    if host == volume:
        return
    if len(host) != len(volume):
        raise Difference(f'{what}: from {start} on the host has {len(host)} bytes, the volume {len(volume)}')
    at = next(i for i in range(len(host)) if host[i] != volume[i])
    last = next(i for i in range(len(host) - 1, -1, -1) if host[i] != volume[i])
    raise Difference(
        f'{what}: first differing byte {start + at} ({start + at:#x}), last {start + last} ({start + last:#x})\n'
        f'  host   {host[at : at + 16].hex(" ")}\n  volume {volume[at : at + 16].hex(" ")}'
    )


def compare_range(fds, start, end, what):
    """Compares two open files from `start` to `end`, their sizes and link counts too."""
    facts = [os.fstat(fd) for fd in fds]
    for name in ('st_size', 'st_nlink', 'st_mode'):
        if getattr(facts[0], name) != getattr(facts[1], name):
            raise Difference(f'{what}: {name} is {getattr(facts[0], name)} on the host, {getattr(facts[1], name)} on the volume')
    start = max(0, start)
    host, volume = (os.pread(fd, end - start, start) for fd in fds)
    compare_bytes(host, volume, start, what)


def data_segments(fd, size):
    """The data of an open file as SEEK_DATA and SEEK_HOLE tell it: (start, end) each."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        if not at <= start < end <= size:
            raise Difference(f'SEEK_DATA({at}) is {start}, SEEK_HOLE({start}) is {end}, with {size} bytes')
        yield start, end
        at = end


def check_holes(fd, what):
    """Whatever an open file does not call data must be zeros; returns how many bytes are holes."""
    size = os.fstat(fd).st_size
    holes = 0
    at = 0
    for start, end in (*data_segments(fd, size), (size, size)):
        piece = os.pread(fd, start - at, at)
        if piece.count(0) != start - at:
            byte = next((i for i, value in enumerate(piece) if value), len(piece))
            raise Difference(f'{what}: SEEK_DATA calls {at} to {start} of {size} bytes a hole, but byte {at + byte} is not zero')
        holes += start - at
        at = end
    try:
        os.lseek(fd, size, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    else:
        raise Difference(f'{what}: SEEK_DATA at the end of the file ({size}) finds data')
    return holes


def entry(root, path):
    """What must be equal of a name: type, mode, owner, links, size, target, attributes; and the inode, to tell links."""
    full = os.path.join(root, path)
    facts = os.lstat(full)
    size = None if stat.S_ISDIR(facts.st_mode) else facts.st_size
    target = os.readlink(full) if stat.S_ISLNK(facts.st_mode) else None
    xattrs = {name: os.getxattr(full, name, follow_symlinks=False) for name in sorted(os.listxattr(full, follow_symlinks=False))}
    return (oct(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_nlink, size, target, xattrs), facts.st_ino


def listing(root):
    """All names below a root, by walking it."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    )


def compare_trees(roots):
    """Compares both trees: names, attributes, links, content, holes. Returns names, bytes and hole bytes of the volume."""
    names, found = (listing(root) for root in roots)
    if names != found:
        raise Difference(f'names only on the host: {sorted(set(names) - set(found))}, only on the volume: {sorted(set(found) - set(names))}')
    partners = {}
    size = holes = 0
    for name in names:
        (host, host_ino), (volume, volume_ino) = (entry(root, name) for root in roots)
        if host != volume:
            raise Difference(f'{name}: the host has {host}, the volume {volume}')
        if partners.setdefault(host_ino, volume_ino) != volume_ino:
            raise Difference(f'{name}: on the host it is the same inode as another name, on the volume it is not')
        if host[0].startswith('0o100'):
            with open(f'{roots[0]}/{name}', 'rb') as left, open(f'{roots[1]}/{name}', 'rb') as right:
                compare_bytes(left.read(), right.read(), 0, name)
                holes += check_holes(right.fileno(), name)
                size += host[4]
    if len(set(partners.values())) != len(partners):
        raise Difference('two inodes of the host are one on the volume')
    return len(names), size, holes

"""
The operations of the exerciser: random calls on a volume and on the host filesystem, the same on both, compared after each.
Keeps: the seed and what the host answers decide what is called, so that a run can be replayed; each operation is noted before it
  is done, and what it touched is compared after it.
Leaves: calling and comparing to trees.py, how long and how often to main.py.
"""
import collections
import mmap
import os
import stat

from choices import FOLDERS, LIMIT, NAMES, PAGE, Choices
from trees import (
    KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, ZERO_RANGE,
    both, check_holes, compare_bytes, compare_range, compare_trees, copy_range, fallocate, renameat2, syncfs,
)  # fmt: skip

MAX_OPEN = 8

FLAGS = (
    os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_CREAT | os.O_DIRECT, os.O_RDWR | os.O_CREAT | os.O_SYNC,
    os.O_RDONLY, os.O_WRONLY | os.O_CREAT,
)  # fmt: skip


class OpenFile:
    """A file open on both sides, with the mappings of it that are kept."""

    def __init__(self, name, flags, fds):
        self.name = name
        self.flags = flags
        self.fds = fds
        self.maps = None

    def size(self):
        return os.fstat(self.fds[0]).st_size

    def can_read(self):
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    def can_write(self):
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    def is_direct(self):
        return bool(self.flags & os.O_DIRECT)

    def unmap(self):
        for mapping in self.maps or ():
            mapping.close()
        self.maps = None

    def close(self):
        self.unmap()
        for fd in self.fds:
            os.close(fd)


def aligned(data):
    """The data in memory that starts at a page, as O_DIRECT wants it."""
    memory = mmap.mmap(-1, max(len(data), 1))
    memory[: len(data)] = data
    return memory


class Exerciser:
    def __init__(self, roots, seed, without=()):
        self.roots = roots
        self.choices = Choices(seed)
        self.random = self.choices.random
        self.open_files = []
        self.log = collections.deque(maxlen=30)
        self.counts = collections.Counter()
        self.number = 0
        self.hole_bytes = 0
        self.operations = [getattr(self, name) for name in WEIGHTS if name not in without]
        self.weights = [WEIGHTS[operation.__name__] for operation in self.operations]

    def paths(self, name):
        return [os.path.join(root, name) for root in self.roots]

    def file(self, wanted=lambda _: True):
        """One of the open files, or None."""
        found = [file for file in self.open_files if wanted(file)]
        return self.random.choice(found) if found else None

    def range(self, file):
        """Offset and length; whole pages for O_DIRECT."""
        offset, length = self.choices.range(file.size())
        if not file.is_direct():
            return offset, length
        offset = offset // PAGE * PAGE
        return offset, -(-length // PAGE) * PAGE

    # The operations: each says what it does by note(), does it on both sides and compares what it touched.

    def note(self, what):
        self.log.append(f'{self.number}: {what}')
        return what

    def open(self):
        name, flags = self.choices.name(), self.random.choice(FLAGS)
        what = self.note(f'open {name} flags {flags:#o}')
        if len(self.open_files) >= MAX_OPEN:
            self.open_files.pop(self.random.randrange(MAX_OPEN)).close()
        fds = []
        paths = self.paths(name)
        both(lambda index: fds.append(os.open(paths[index], flags, 0o644)), what)
        if not fds:
            return
        file = OpenFile(name, flags, fds)
        if stat.S_ISREG(os.fstat(fds[0]).st_mode):
            self.open_files.append(file)
        else:
            file.close()

    def open_unnamed(self):
        """O_TMPFILE, now and then given a name at once."""
        folder, name, flags = self.random.choice(('', *FOLDERS)), self.choices.name(), os.O_RDWR | os.O_TMPFILE
        what = self.note(f'open an unnamed file in /{folder}, and link it as {name}')
        if len(self.open_files) >= MAX_OPEN:
            return
        fds = []
        folders, targets = self.paths(folder), self.paths(name)
        both(lambda index: fds.append(os.open(folders[index], flags, 0o600)), what)
        if not fds:
            return
        self.open_files.append(OpenFile('(unnamed)', flags, fds))
        if self.choices.chance(0.5):
            # Python follows a symlink only when it is given a folder, whatever folder.
            both(lambda index: os.link(f'/proc/self/fd/{fds[index]}', targets[index], src_dir_fd=fds[index]), what)

    def close(self):
        if not self.open_files:
            return
        index = self.random.randrange(len(self.open_files))
        file = self.open_files.pop(index)
        self.note(f'close #{index} {file.name}')
        file.close()

    def touched(self, file, start, end, what):
        """Compares the range and a page around it; a file that cannot be read is compared with the tree."""
        if not file.can_read():
            return
        start, end = max(0, start - PAGE), end + PAGE
        if file.is_direct():
            start, end = start // PAGE * PAGE, -(-end // PAGE) * PAGE
            self.compare_direct(file, start, end, what)
        else:
            compare_range(file.fds, start, end, what)

    def compare_direct(self, file, start, end, what):
        with mmap.mmap(-1, end - start) as host, mmap.mmap(-1, end - start) as volume:
            memories = (host, volume)
            count = both(lambda index: os.preadv(file.fds[index], [memories[index]], start), f'{what}: reading with O_DIRECT')
            compare_bytes(host[:count], volume[:count], start, what)
        compare_range(file.fds, 0, 0, what)

    def write(self):
        file = self.file(OpenFile.can_write)
        if file is None:
            return
        offset, length = self.range(file)
        self.write_at(file, offset, length, 'write')

    def append(self):
        file = self.file(lambda file: file.can_write() and not file.is_direct())
        if file is None or file.size() >= LIMIT:
            return
        self.write_at(file, file.size(), min(self.choices.length(), LIMIT - file.size()), 'append')

    def write_at(self, file, offset, length, word):
        data = self.choices.data(length)
        what = self.note(f'{word} {file.name} flags {file.flags:#o} at {offset}, {length} bytes')
        before = file.size()
        if file.flags & os.O_APPEND and before + length > LIMIT:
            return
        with aligned(data) as memory:
            view = memoryview(memory)[:length]
            both(lambda index: os.pwrite(file.fds[index], view, offset), what)
            view.release()
        start = before if file.flags & os.O_APPEND else min(offset, before)
        self.touched(file, start, max(offset, start) + length, what)

    def read(self):
        file = self.file(OpenFile.can_read)
        if file is None:
            return
        offset, length = self.range(file)
        what = self.note(f'read {file.name} at {offset}, {length} bytes')
        if file.is_direct():
            self.compare_direct(file, offset, offset + length, what)
        else:
            compare_range(file.fds, offset, offset + length, what)

    def truncate(self):
        file = self.file(OpenFile.can_write)
        if file is None:
            return
        before = file.size()
        size = self.random.choice((0, self.choices.offset(before), self.choices.offset(before), self.random.randint(0, LIMIT)))
        what = self.note(f'ftruncate {file.name} from {before} to {size}')
        both(lambda index: os.ftruncate(file.fds[index], size), what)
        self.touched(file, min(before, size), max(before, size), what)

    def truncate_path(self):
        name, size = self.choices.name(), self.random.randint(0, LIMIT)
        what = self.note(f'truncate {name} to {size}')
        paths = self.paths(name)
        both(lambda index: os.truncate(paths[index], size), what)

    def mapped(self):
        """An open file with shared mappings, new or kept, and the range of them that lies in the file; or None."""
        file = self.file(lambda file: file.flags & os.O_ACCMODE == os.O_RDWR)
        if file is None or file.size() == 0:
            return None
        if file.maps is None or self.choices.chance(0.2):
            file.unmap()
            size = file.size()
            file.maps = [mmap.mmap(fd, size) for fd in file.fds]
        end = min(len(file.maps[0]), file.size())
        start = min(self.choices.offset(end), end - 1)
        return file, start, min(start + self.choices.length(), end)

    def map_read(self):
        found = self.mapped()
        if found is None:
            return
        file, start, end = found
        what = self.note(f'read the mapping of {file.name} from {start} to {end}')
        compare_bytes(file.maps[0][start:end], file.maps[1][start:end], start, what)

    def map_write(self):
        found = self.mapped()
        if found is None:
            return
        file, start, end = found
        is_synced = self.choices.chance(0.2)
        what = self.note(f'write the mapping of {file.name} from {start} to {end}{", msync" if is_synced else ""}')
        data = self.choices.data(end - start)
        for mapping in file.maps:
            mapping[start:end] = data
            if is_synced:
                page = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
                mapping.flush(page, end - page)
        self.touched(file, start, end, what)

    def allocate(self):
        file = self.file(OpenFile.can_write)
        if file is None:
            return
        word, mode = self.random.choice(
            (('punch', PUNCH_HOLE | KEEP_SIZE), ('punch', PUNCH_HOLE | KEEP_SIZE), ('zero', ZERO_RANGE), ('zero keeping size', ZERO_RANGE | KEEP_SIZE),
             ('allocate', 0), ('allocate keeping size', KEEP_SIZE))
        )  # fmt: skip
        offset, length = self.range(file)
        before = file.size()
        what = self.note(f'{word} {file.name} of {before} bytes at {offset}, {length} bytes')
        both(lambda index: fallocate(file.fds[index], mode, offset, length), what)
        self.touched(file, min(offset, before), offset + length, what)

    def copy_range(self):
        # Not with O_DIRECT: the host copies through its buffers and wants them aligned.
        source = self.file(lambda file: file.can_read() and not file.is_direct())
        target = self.file(lambda file: file.can_write() and not file.is_direct())
        if source is None or target is None:
            return
        offset, length = self.range(source)
        before = target.size()
        to = self.choices.offset(before)
        length = min(length, LIMIT - to)
        what = self.note(f'copy {length} bytes of {source.name} at {offset} into {target.name} flags {target.flags:#o} at {to}')
        both(lambda index: copy_range(source.fds[index], target.fds[index], offset, length, to), what)
        self.touched(target, min(to, before), to + length, what)

    def seek(self):
        file = self.file(OpenFile.can_read)
        if file is None or file.is_direct():
            return
        what = self.note(f'holes of {file.name}')
        check_holes(file.fds[1], what)

    def rename(self):
        old, new, flags = self.choices.name(), self.choices.name(), self.random.choice((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
        self.rename_to(old, new, flags)

    def rename_folder(self):
        self.rename_to(self.random.choice(FOLDERS), self.random.choice((*FOLDERS, 'y', 'y/z')), self.random.choice((0, RENAME_EXCHANGE)))
        self.rename_to('y', self.random.choice(FOLDERS), 0)

    def rename_to(self, old, new, flags):
        what = self.note(f'rename {old} to {new} flags {flags}')
        sources, targets = self.paths(old), self.paths(new)
        both(lambda index: renameat2(sources[index], targets[index], flags), what)

    def unlink(self):
        name = self.choices.name()
        what = self.note(f'unlink {name}')
        paths = self.paths(name)
        both(lambda index: os.unlink(paths[index]), what)

    def link(self):
        old, new = self.choices.name(), self.choices.name()
        what = self.note(f'link {old} as {new}')
        sources, targets = self.paths(old), self.paths(new)
        both(lambda index: os.link(sources[index], targets[index], follow_symlinks=False), what)

    def symlink(self):
        target, name = os.path.basename(self.choices.name()), self.choices.name()
        what = self.note(f'symlink {name} to {target}')
        paths = self.paths(name)
        both(lambda index: os.symlink(target, paths[index]), what)

    def make_folder(self):
        name = self.random.choice(FOLDERS)
        what = self.note(f'mkdir {name}')
        paths = self.paths(name)
        both(lambda index: os.mkdir(paths[index]), what)

    def remove_folder(self):
        name = self.random.choice(FOLDERS)
        what = self.note(f'rmdir {name}')
        paths = self.paths(name)
        both(lambda index: os.rmdir(paths[index]), what)

    def attributes(self):
        name, mode, value = self.choices.name(), self.random.choice((0o600, 0o644, 0o755, 0o4755)), self.choices.data(self.random.randint(0, 200))
        what = self.note(f'chmod {name} {mode:o}, setxattr, utimensat')
        paths = self.paths(name)
        times = (self.random.randrange(4 * 10**18), self.random.randrange(4 * 10**18))

        def call(index):
            os.setxattr(paths[index], f'user.{mode:o}', value)
            os.chmod(paths[index], mode)
            os.utime(paths[index], ns=times)
            facts = os.stat(paths[index])
            return facts.st_mode, facts.st_mtime_ns, os.getxattr(paths[index], f'user.{mode:o}')

        both(call, what)

    def acl(self):
        """An access list on a file, or a default list that what is made in a folder inherits."""
        if self.choices.chance(0.5):
            name, attribute = self.choices.name(), 'system.posix_acl_access'
        else:
            name, attribute = self.random.choice(FOLDERS), 'system.posix_acl_default'
        value = self.choices.acl()
        what = self.note(f'{attribute} of {name}')
        paths = self.paths(name)
        if self.choices.chance(0.3):
            both(lambda index: os.removexattr(paths[index], attribute), what)
        else:
            both(lambda index: os.setxattr(paths[index], attribute, value), what)

    def sync(self):
        file = self.file()
        if file is None:
            return
        call = self.random.choice((os.fsync, os.fdatasync))
        what = self.note(f'{call.__name__} {file.name}, and its pages are dropped')
        both(lambda index: call(file.fds[index]), what)
        # What was mapped stays; all else comes from the volume again.
        os.posix_fadvise(file.fds[1], 0, 0, os.POSIX_FADV_DONTNEED)
        if file.can_read() and not file.is_direct():
            compare_range(file.fds, 0, LIMIT, what)

    def drop_caches(self):
        self.note('drop all caches')
        # Dirty pages stay, so those of the volume are written first; those of the rest of the machine are not ours to wait for.
        syncfs(self.roots[1])
        with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as control:
            control.write('3')

    # The run.

    def step(self):
        self.number += 1
        operation = self.random.choices(self.operations, self.weights)[0]
        self.counts[operation.__name__] += 1
        operation()

    def compare_all(self):
        """Compares every open file, names or not, then the trees; returns names, bytes and hole bytes."""
        for file in self.open_files:
            what = f'{file.name}, open with flags {file.flags:#o}'
            self.touched(file, 0, LIMIT, what)
        result = compare_trees(self.roots)
        self.hole_bytes = max(self.hole_bytes, result[2])
        return result

    def close_all(self):
        while self.open_files:
            self.open_files.pop().close()


WEIGHTS = {
    'open': 60, 'open_unnamed': 5, 'close': 15, 'write': 120, 'append': 40, 'read': 60, 'truncate': 40, 'truncate_path': 10, 'map_read': 40, 'map_write': 80,
    'allocate': 60, 'copy_range': 50, 'seek': 30, 'rename': 25, 'rename_folder': 3, 'unlink': 15, 'link': 10, 'symlink': 3, 'make_folder': 8,
    'remove_folder': 3, 'attributes': 15, 'acl': 6, 'sync': 40, 'drop_caches': 0.2,
}  # fmt: skip

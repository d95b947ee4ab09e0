"""
What the seed of the exerciser decides: names, ranges and bytes, chosen so that they meet the borders where faults are.
Keeps: one generator, so that the same seed and the same sizes give the same choices. Leaves: which operation to operations.py.
"""
import random
import struct

PAGE = 4096
# The block of the engine, see docs/format.md: extents never cross its borders.
BLOCK = 128 << 10
LIMIT = 1 << 20

FOLDERS = ('d', 'd/e', 'x')
NAMES = [f'{folder}{letter}' for folder in ('', 'd/', 'd/e/', 'x/') for letter in 'abcd']

# Access control lists as setxattr(2) takes them: version 2, then (tag, permissions, id); linux/posix_acl_xattr.h.
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY_ID = 0xFFFFFFFF
ACLS = (
    ((OWNER, 6, NOBODY_ID), (OWNING_GROUP, 4, NOBODY_ID), (OTHER, 4, NOBODY_ID)),
    ((OWNER, 7, NOBODY_ID), (USER, 6, 1000), (OWNING_GROUP, 5, NOBODY_ID), (MASK, 6, NOBODY_ID), (OTHER, 0, NOBODY_ID)),
    ((OWNER, 6, NOBODY_ID), (USER, 5, 7), (OWNING_GROUP, 5, NOBODY_ID), (GROUP, 7, 9), (MASK, 7, NOBODY_ID), (OTHER, 1, NOBODY_ID)),
)


class Choices:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pages = [self.random.randbytes(PAGE) for _ in range(4)]

    def chance(self, share):
        return self.random.random() < share

    def name(self):
        return self.random.choice(NAMES)

    def length(self):
        kind = self.random.random()
        if kind < 0.4:
            return self.random.randint(1, 300)
        if kind < 0.75:
            return self.random.randint(1, 4 * PAGE)
        if kind < 0.85:
            return PAGE * self.random.randint(1, 16)
        if kind < 0.9:
            return BLOCK
        return self.random.randint(1, 2 * BLOCK + PAGE)

    def offset(self, size):
        kind = self.random.random()
        if kind < 0.6:
            at = self.random.randint(0, size)
        elif kind < 0.75:
            at = self.random.randint(0, size) // PAGE * PAGE
        elif kind < 0.85:
            at = self.random.randint(0, size) // BLOCK * BLOCK
        elif kind < 0.93:
            at = size
        else:
            at = size + self.random.randint(1, 2 * BLOCK)
        return min(at, LIMIT - 1)

    def range(self, size):
        """Offset and length, within the limit."""
        offset = self.offset(size)
        return offset, min(self.length(), LIMIT - offset)

    def data(self, length):
        kind = self.random.random()
        if kind < 0.55:
            return self.random.randbytes(length)
        if kind < 0.65:
            return bytes(length)
        if kind < 0.8:
            return (self.random.choice(self.pages) * (length // PAGE + 1))[:length]
        return (b'%d the quick brown fox\n' % self.random.randrange(10**6) * (length // 16 + 1))[:length]

    def acl(self):
        entries = self.random.choice(ACLS)
        return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)

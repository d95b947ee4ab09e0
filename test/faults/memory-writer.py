"""
A writer of the memory test. Arguments: KIND DIRECTORY BYTES SEED; prints one JSON object, name to sha256, of what it has written.
Keeps: it needs little memory itself, whatever it writes: content is made again from (seed, file, block, version) to be hashed.

files    many files from 1 KiB to 2 MiB, closed one after the other
synced   the same, each with fsync(2)
large    one file from its begin to its end, then single blocks anywhere in it
mapped   the same through a shared mapping of the whole file
"""
import hashlib
import json
import mmap
import os
import random
import sys

kind, directory, total, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
BLOCK = 65536


def block(name, index, version, size=BLOCK):
    return hashlib.shake_128(f'{seed} {name} {index} {version}'.encode()).digest(size)


def write_files(is_synced):
    sums, written = {}, 0
    while written < total:
        name = f'f{len(sums):06}'
        size = chance.choice([1 << 10, 5000, 1 << 16, 300_000, 1 << 21])
        hash = hashlib.sha256()
        folder = os.path.join(directory, f'd{len(sums) % 16}')
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), 'wb', buffering=0) as file:
            for index in range(0, -(-size // BLOCK)):
                content = block(name, index, 0, min(BLOCK, size - index * BLOCK))
                hash.update(content)
                assert file.write(content) == len(content)
            if is_synced:
                os.fsync(file.fileno())
        sums[os.path.join(f'd{len(sums) % 16}', name)] = hash.hexdigest()
        written += size
    return sums


def write_blocks(put):
    """All blocks in order, then a tenth of as many, anywhere, anew; returns the hash of the whole."""
    count = total // BLOCK
    versions = bytearray(count)
    for index in range(count):
        put(index, block('large', index, 0))
    for _ in range(count // 10):
        index = chance.randrange(count)
        versions[index] = (versions[index] + 1) % 256
        put(index, block('large', index, versions[index]))
    hash = hashlib.sha256()
    for index in range(count):
        hash.update(block('large', index, versions[index]))
    return hash.hexdigest()


def write_large():
    with open(os.path.join(directory, 'large'), 'wb', buffering=0) as file:
        def put(index, content):
            assert os.pwrite(file.fileno(), content, index * BLOCK) == len(content)
        return {'large': write_blocks(put)}


def write_mapped():
    with open(os.path.join(directory, 'mapped'), 'w+b') as file:
        size = total // BLOCK * BLOCK
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as mapping:
            def put(index, content):
                mapping[index * BLOCK:(index + 1) * BLOCK] = content
            sums = {'mapped': write_blocks(put)}
            mapping.flush()
        return sums


kinds = {'files': lambda: write_files(False), 'synced': lambda: write_files(True), 'large': write_large, 'mapped': write_mapped}
os.makedirs(directory, exist_ok=True)
print(json.dumps(kinds[kind]()))

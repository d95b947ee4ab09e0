"""
A consumer in the race test: writes into whatever volume is mounted below ROOT, until its standard input ends, and prints how often.
Keeps: it never writes where nothing is mounted; an error is only allowed where the mount ends (unmount by force) or is read-only:
any other ends it with a complaint. Arguments: ROOT SEED.
"""
import errno
import os
import random
import select
import stat
import sys
import time

root, chance = sys.argv[1], random.Random(int(sys.argv[2]))
MOUNT_ENDS = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED}
GONE = {errno.ENOENT, errno.EROFS}
LIMIT_SECONDS = 30
done = 0


def is_mounted(device):
    number = f'{os.major(device)}:{os.minor(device)}'
    with open('/proc/self/mountinfo') as mounts:
        return any(line.split()[2] == number for line in mounts)


def ends(device):
    """Whether the mount is gone, or goes within some time."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while is_mounted(device):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def work(directory):
    name = f'w{chance.randrange(20)}'
    flags = os.O_RDWR | os.O_CREAT | (os.O_APPEND if chance.random() < 0.5 else 0)
    fd = os.open(name, flags, 0o644, dir_fd=directory)
    try:
        os.write(fd, chance.randbytes(chance.choice([10, 5000, 200_000])))
        if chance.random() < 0.3:
            os.fsync(fd)
    finally:
        os.close(fd)
    if chance.random() < 0.4:
        os.rename(name, f'w{chance.randrange(20)}', src_dir_fd=directory, dst_dir_fd=directory)
    if chance.random() < 0.3:
        os.unlink(f'w{chance.randrange(20)}', dir_fd=directory)


def visit(path):
    """Opens the directory first: what is done then is done in the mount that it was found to be, or fails."""
    global done
    device = None
    directory = -1
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        device = os.fstat(directory).st_dev
        if device == os.stat(root).st_dev:
            return
        work(directory)
        done += 1
    except OSError as error:
        if error.errno in GONE:
            return
        if error.errno in MOUNT_ENDS and (device is None or ends(device)):
            return
        raise
    finally:
        if directory >= 0:
            os.close(directory)


while not select.select([sys.stdin], [], [], chance.random() * 0.05)[0]:
    names = os.listdir(root)
    if names:
        visit(os.path.join(root, chance.choice(names)))
print(done)

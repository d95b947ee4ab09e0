/** Cases that the driver fuse-native does otherwise, by reason. What they mean for users: docs/drivers.md. */

/** Cases that a row does otherwise, each with the reason. */
export type Exceptions = Readonly<Record<string, string>>

const byReason: Readonly<Record<string, readonly string[]>> = {
  'fuse-native does not tell who asks: a new inode belongs to the owner of its directory': [
    'a new inode belongs to who makes it',
    'a setgid directory hands its group down, and to directories the bit',
    'who is not in the group of a setgid directory makes no setgid file there',
    'in a sticky directory an entry is removed and renamed by its owner only',
    'the names of trusted attributes are listed for root only',
  ],
  'the mount is nosuid, since an owner does not tell who made a file': [
    'a setuid program runs as its owner, a setgid one as its group',
    'a setuid program that somebody else has written runs as who starts it, however it was written',
  ],
  'fuse-native passes whole milliseconds since 1970': [
    'times keep their nanoseconds, before 1970 and after 2038 too',
    'a time in the year 9999 is kept',
    'a symlink has an owner and times of its own',
    'an unlinked file that is open goes through every operation',
    'what was written before utimens does not move mtime afterwards',
  ],
  'libfuse 2 drops a change of one time alone, and fuse-native does not tell it otherwise': [
    'UTIME_NOW is now, UTIME_OMIT leaves a time alone',
  ],
  'fuse-native passes names as UTF-8': [
    'a name has 1 to 255 bytes of any kind but / and NUL',
    'a symlink holds up to 4,095 bytes of any kind, and its size is their number',
  ],
  'libfuse 2 cannot ask for access control lists to be evaluated: they are refused': [
    'an entry for a user or a group is evaluated',
    'an entry can take away what others have',
    'the mask limits users and groups, shows as the group bits, and is what chmod sets',
    'a list sets the mode, and one that says no more than the mode is not kept',
    'a default list is handed down: to files as their list, to directories as both',
    'with a default list the umask does not count, without it does',
    'a default list without further users makes no list for files',
    'lists are set by the owner only, default ones on directories only',
    'bytes that are no list are refused',
    'setfacl by an owner who is not in the group clears setgid',
    'a list belongs to the inode: it stays through rename and link, and reads the same after the caches are dropped',
    'cp -a and a chown keep the list',
  ],
  'fuse-native has no fallocate': [
    'fallocate makes a file longer, with zeros, and keeps what was there',
    'fallocate with KEEP_SIZE changes no byte and no size',
    'fallocate refuses what makes no sense',
    'a fallocate by others than root clears setuid and setgid',
    'a punched hole reads as zeros, frees its blocks and keeps the size',
    'a hole punched within a page leaves its neighbours',
    'a hole punched through unwritten pages takes them too',
    'a zeroed range reads as zeros and makes the file longer unless told to keep its size',
    'SEEK_DATA and SEEK_HOLE see a punched hole',
  ],
  'libfuse 2 does not know SEEK_DATA and SEEK_HOLE: a file is all data': [
    'SEEK_DATA and SEEK_HOLE tell where data lie',
    'holes of a closed file are told to the byte',
  ],
  'libfuse 2 does not know O_TMPFILE': [
    'an O_TMPFILE has no name until it is linked by its descriptor',
    'an O_TMPFILE opened with O_EXCL can never be linked',
    'a file made without a name keeps the times it was given when it gets one',
    'umask takes bits from every new inode but a symlink',
    'a file without a name is gone after the next mount, and its space with it',
  ],
  'libfuse 2 does not know renameat2(2)': [
    'RENAME_NOREPLACE renames to a free name only',
    'RENAME_EXCHANGE swaps two names, a file with a directory too',
  ],
  'libfuse 2 knows directories by path: one that is removed while it is open is lost': [
    'rename replaces an empty directory by a directory only',
    'a directory that a rename replaced can be asked for, and takes no new entries',
    'a removed directory that is somebody’s working directory takes no new entries',
  ],
  'libfuse 2 makes an inode of each name': [
    'locks follow the inode: through another name, and after an unlink',
    'a file handle is the same for each name of the file, and stays through renames',
  ],
  'libfuse 2 forgets numbers that the kernel has forgotten': [
    'a file handle opens its file, also after the kernel has forgotten it',
    'a file handle of a directory finds its way up, after the kernel has forgotten it',
  ],
}

export const onFuseNative: Exceptions = Object.fromEntries(
  Object.entries(byReason).flatMap(([reason, names]) => names.map((name) => [name, reason])),
)

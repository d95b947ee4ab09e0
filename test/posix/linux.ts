/** Constants of the Linux headers that Node does not export, under their own names; those that differ between architectures are derived. */
import { constants } from 'node:fs'

export const {
  O_RDONLY,
  O_WRONLY,
  O_RDWR,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_APPEND,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_SYNC,
  O_DIRECT,
  O_NONBLOCK,
  S_IFMT,
  S_IFREG,
  S_IFDIR,
  S_IFLNK,
  S_IFIFO,
  S_IFSOCK,
  S_IFCHR,
  S_IFBLK,
  R_OK,
  W_OK,
  X_OK,
} = constants

// fcntl.h
export const O_TMPFILE = 0o20000000 | O_DIRECTORY
export const O_PATH = 0o10000000
export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_SYMLINK_FOLLOW = 0x400
export const F_GETLK = 5
export const F_SETLK = 6
export const F_SETLKW = 7
export const F_OFD_GETLK = 36
export const F_OFD_SETLK = 37
export const F_RDLCK = 0
export const F_WRLCK = 1
export const F_UNLCK = 2

// stdio.h
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2

// unistd.h
export const SEEK_SET = 0
export const SEEK_CUR = 1
export const SEEK_END = 2
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

// sys/file.h
export const LOCK_SH = 1
export const LOCK_EX = 2
export const LOCK_NB = 4
export const LOCK_UN = 8

// sys/mman.h
export const PROT_READ = 1
export const PROT_WRITE = 2
export const MAP_SHARED = 1
export const MAP_PRIVATE = 2

// sys/stat.h
export const UTIME_NOW = (1 << 30) - 1
export const UTIME_OMIT = (1 << 30) - 2

// sys/xattr.h
export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2

// linux/falloc.h
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
export const FALLOC_FL_COLLAPSE_RANGE = 8
export const FALLOC_FL_ZERO_RANGE = 16
export const FALLOC_FL_INSERT_RANGE = 32

// dirent.h
export const DT_FIFO = 1
export const DT_CHR = 2
export const DT_DIR = 4
export const DT_BLK = 6
export const DT_REG = 8
export const DT_LNK = 10
export const DT_SOCK = 12

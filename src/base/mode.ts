/**
 * The bits of a file's mode and the open flags, by the names of inode(7) and open(2), for Linux.
 * Keeps: one place for the numbers. Leaves: what they mean for a request to engine and fuse.
 */

/** File type bits of st_mode, inode(7). */
export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
export const S_ISUID = 0o4000
export const S_ISGID = 0o2000
export const S_IXGRP = 0o010

/** Open flags, asm-generic/fcntl.h. */
export const O_ACCMODE = 3
export const O_RDONLY = 0
export const O_RDWR = 2
export const O_TRUNC = 0o1000

/** renameat2(2) flags. */
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2

/** The longest name, in bytes: NAME_MAX of limits.h. */
export const NAME_MAX = 255

/** Whether a mode is a directory's, a regular file's, a symlink's, a device's. */
export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK
export const isDevice = (mode: number): boolean => (mode & S_IFMT) === S_IFCHR || (mode & S_IFMT) === S_IFBLK

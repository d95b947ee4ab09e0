import { script } from './support.ts'

/** A tree with everything that an archiver may carry: modes, owners, links, holes, times, attributes, access lists, odd names. */
const makeTree = `
make_tree() {
  mkdir -p "$1/deep/er/est" "$1/shared"; cd "$1"
  for i in $(seq 200); do head -c $((i * 37)) /dev/urandom >"deep/er/f$i"; done
  cp -r /usr/share/perl5/Debian* deep/ 2>/dev/null || cp -r /usr/share/doc/bash deep/
  ln deep/er/f1 deep/er/est/hard; ln deep/er/f1 hard; ln -s deep/er/f2 soft; ln -s /nowhere/at/all dangling
  printf 'end' | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none; truncate -s 9M sparse
  printf x >"$(printf 'new\\nline')"; printf y >"$(printf 'latin\\351')"; printf z >' -rf '; : >empty
  mkfifo fifo; mknod null c 1 3; mknod block b 7 200
  chown 1234:2345 deep/er/f3; chown -h 77:88 soft; chmod 4755 deep/er/f4; chmod 2775 shared; chmod 1777 deep/er/est; chmod 000 deep/er/f5
  setfattr -n user.colour -v blue deep/er/f6; setfattr -n user.large -v "$(head -c 2000 /dev/zero | tr '\\0' v)" deep
  setfattr -n trusted.note -v 0x00ff01 deep/er/f7; setfattr -h -n trusted.link -v yes soft
  setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 deep/er/f8
  setfacl -m u:1000:rw,g:2000:r,m::rwx deep/er/f9; setfacl -m u:7:rwx -m d:u:1000:rwx,d:g::r,d:o:- shared
  touch -h -d '1970-01-02 03:04:05.123456789' soft deep/er/f10; touch -d '2038-02-03 04:05:06.7' deep/er/f11; touch -d '1999-01-01' deep/er/est shared
}
# Everything of a tree but inode numbers, change and access times and the sizes of folders.
facts() (
  cd "$1"; all() { find . "$@" -print0 | LC_ALL=C sort -z; }
  find . -printf '%P %y %m %U:%G %n %T@ %l\\n' | LC_ALL=C sort
  all \\( -type b -o -type c \\) | xargs -0 stat -c '%n %t %T'
  all -type f | xargs -0 stat -c '%i %n %s' | awk '{ if (!($1 in n)) n[$1] = ++c; $1 = n[$1]; print }'
  all | xargs -0 getfattr -hd -m - --
  all ! -type l | xargs -0 getfacl -pn --
  all -type f | xargs -0 sha256sum --
)
same() { facts "$1" >"$3/one"; facts "$2" >"$3/two"; diff "$3/one" "$3/two"; }
`

const programs = ['setfattr', 'getfattr', 'setfacl', 'getfacl']

script(
  'rsync -aHAX onto a volume: the second run transfers nothing, also by checksum, and what comes back is the same',
  [...programs, 'rsync'],
  `${makeTree}
  # Times to the nanosecond: what differs only below a second is the same to rsync otherwise.
  rsync() { command rsync --modify-window=-1 "$@"; }
  (make_tree "$2/from")
  rsync -aHAX "$2/from/" "$1/copy/"
  [ -z "$(rsync -aHAX --itemize-changes "$2/from/" "$1/copy/")" ]
  [ -z "$(rsync -aHAXc --delete --itemize-changes "$2/from/" "$1/copy/")" ]
  same "$2/from" "$1/copy" "$2"
  rsync -aHAXS "$1/copy/" "$2/back/"; same "$2/from" "$2/back" "$2"
  echo more >>"$2/from/deep/er/f12"; rm "$2/from/empty"; ln "$2/from/deep/er/f13" "$2/from/another"
  rsync -aHAX --delete --inplace "$2/from/" "$1/copy/"; same "$2/from" "$1/copy" "$2"`,
)

script(
  'tar with sparse files, attributes and access lists, from a volume and onto it: everything is the same',
  [...programs, 'tar'],
  `${makeTree}
  (make_tree "$1/from")
  tar() { command tar --sparse --acls --xattrs --xattrs-include='*' --numeric-owner --format=posix "$@"; }
  tar -C "$1/from" -cf "$1/archive.tar" .
  [ "$(stat -c %s "$1/archive.tar")" -lt 9000000 ]
  mkdir "$1/to" "$2/host"
  tar -C "$1/to" -xpf "$1/archive.tar"; same "$1/from" "$1/to" "$2"
  tar -C "$2/host" -xpf "$1/archive.tar"; same "$1/from" "$2/host" "$2"
  tar -C "$1/to" --compare -f "$1/archive.tar"`,
)

script(
  'cp -a with holes, from the host onto a volume, within it and back: everything is the same',
  programs,
  `${makeTree}
  (make_tree "$2/from")
  cp -a "$2/from" "$1/one"; cp -a --sparse=always "$1/one" "$1/two"; cp -a "$1/two" "$2/back"
  same "$2/from" "$1/one" "$2"; same "$1/one" "$1/two" "$2"; same "$2/from" "$2/back" "$2"
  [ "$(stat -c %b "$1/two/sparse")" -lt 1000 ]`,
)

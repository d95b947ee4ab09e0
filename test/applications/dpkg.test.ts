import { script } from './support.ts'

script(
  "dpkg: Debian's packages are unpacked, verified, installed again over themselves and purged; a program runs from the volume",
  ['dpkg', 'apt-get'],
  `# None of them has maintainer scripts, which would need a whole system in the volume.
  packages='hello linux-libc-dev libc6-dev bash-doc'
  cd "$2"; download() { apt-get -qq -o APT::Sandbox::User=root download $packages; }
  download 2>/dev/null || { apt-get -qq update; download; } # an image may have no lists, or old ones
  root=$1/root; log=$2/log
  mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/triggers"; touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
  dpkg() { command dpkg --root="$root" --log="$log" --force-depends "$@"; }
  for round in first again; do
    dpkg --install ./*.deb >/dev/null
    [ "$(command dpkg-query --admindir="$root/var/lib/dpkg" -W -f '\${db:Status-Abbrev} ' $packages | tr -d ' ')" = iiiiiiii ]
    [ -z "$(dpkg --verify)" ]
  done
  # The same files as an archive says them to be, hard links and symlinks too.
  for deb in ./*.deb; do dpkg-deb -x "$deb" "$2/plain"; done
  diff -r --no-dereference "$2/plain/usr" "$root/usr"
  [ "$("$root/usr/bin/hello")" = 'Hello, world!' ]
  echo tampered >>"$root/usr/include/linux/fuse.h"
  [ "$(dpkg --verify | wc -l)" = 1 ]
  dpkg --purge $packages >/dev/null
  [ -z "$(find "$root/usr" ! -type d 2>/dev/null)" ]`,
)

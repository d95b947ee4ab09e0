#!/bin/sh
# backup.sh: keeps a replica of a litevol volume: asks whether it changed, and if so exports it; over links that break.
#
#   backup.sh URL VOLUME REPLICA [SECONDS]
#
# URL is that of the service, VOLUME an id, REPLICA the file to keep. It looks every SECONDS (60); with 0 it ends when the replica
# is up to date. LITEVOL_TOKEN_FILE names the file with the service's bearer token, where one is needed. Needs curl.
#
# Keeps: REPLICA is always a whole volume file: what is fetched gathers in REPLICA.part and replaces it by rename. A download that
#   breaks goes on where it broke, on the same bytes; when these are gone it starts anew. Nothing that changed is missed, since
#   the change token that is kept was read before the export began. An unchanged volume costs one request, answered 304.
# Leaves: more than one replica, and their age, to you.
set -eu

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  echo 'usage: backup.sh URL VOLUME REPLICA [SECONDS]' >&2
  exit 2
fi
volume=$1/volumes/$2
replica=$3
seconds=${4-60}
umask 077

part=$replica.part   # the bytes fetched so far
state=$replica.state # of the part: ETag of the export, change token from before it, size of the whole
token=$replica.token # the change token of the replica
piece=$replica.piece # what this request brought
head=$replica.head   # its header

# curl with the bearer token, which does not appear among the arguments. A link that is silent for 30 s counts as broken.
fetch() {
  if [ -n "${LITEVOL_TOKEN_FILE-}" ]; then
    printf 'header = "authorization: Bearer %s"\n' "$(cat "$LITEVOL_TOKEN_FILE")"
  fi | curl -sS -K - --connect-timeout 10 --speed-limit 1 --speed-time 30 -D "$head" "$@"
}

status() { awk '/^HTTP\// { code = $2 } END { print code }' "$head"; }
header() { awk -v name="$1:" 'tolower($1) == name { sub(/^[^ ]* /, ""); sub(/\r$/, ""); print; exit }' "$head"; }
size() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }
line() { sed -n "$2p" "$1" 2>/dev/null || true; }

# Replaces a small file as a whole: FILE LINE…
put() {
  file=$1
  shift
  printf '%s\n' "$@" >"$file.new" && mv "$file.new" "$file"
}

# Asks for the change token; fails when the service does not answer. Prints nothing when the volume is as it was.
look() {
  rm -f "$head"
  fetch -o /dev/null -H "If-None-Match: $(line "$token" 1)" "$volume/stat" || return 1
  case $(status) in
    200) header etag ;;
    304) ;;
    *) echo "backup: stat of $volume: $(status)" >&2; return 1 ;;
  esac
}

# Fetches what is missing of the part, or as much as comes; $1 is the change token of now.
gather() {
  [ -n "$(line "$state" 3)" ] || rm -f "$part"
  have=$(size "$part")
  [ "$have" -gt 0 ] && [ "$have" = "$(line "$state" 3)" ] && return 0
  rm -f "$head" "$piece"
  if [ "$have" -gt 0 ]; then
    fetch -o "$piece" -H "Range: bytes=$have-" -H "If-Range: $(line "$state" 1)" "$volume/export" || true
  else
    fetch -o "$piece" "$volume/export" || true
  fi
  [ -s "$head" ] && [ -n "$(header content-length)" ] && [ -n "$(header etag)" ] || return 1
  case $(status) in
    200) # other bytes than those of the part: it goes before anything is said about its successor
      rm -f "$part" && put "$state" "$(header etag)" "$1" "$(header content-length)" || return 1
      [ ! -f "$piece" ] || mv "$piece" "$part"
      ;;
    206)
      [ "$(header etag)" = "$(line "$state" 1)" ] || return 1
      [ ! -f "$piece" ] || cat "$piece" >>"$part"
      ;;
    *) echo "backup: export of $volume: $(status)" >&2; return 1 ;;
  esac
  [ "$(size "$part")" = "$(line "$state" 3)" ]
}

# One look, and the export if need be; fails when the link broke. Each step says itself whether it failed: `set -e` rests in conditions.
round() {
  now=$(look) || return 1
  [ -n "$now" ] || return 0
  gather "$now" || return 1
  sync "$part" && mv "$part" "$replica" && sync "$(dirname -- "$replica")" && put "$token" "$(line "$state" 2)" || return 1
}

while :; do
  if round; then
    rm -f "$state" "$piece" "$head"
    [ "$seconds" != 0 ] || exit 0
    sleep "$seconds"
  else
    sleep 1
  fi
done

#!/bin/sh
# keeper.sh MODE FOLDER FILE NODE PROGRAM OPTIONS: keeps one mount served. It holds what must outlive a FUSE process, the
# descriptors of /dev/fuse and of the volume's lock, and replaces a process that dies by one that inherits them.
# Keeps: a successor begins only when its predecessor is gone (wait), and is told by a line in a pipe that this shell holds open: how
#   many processes were replaced so far, also those that died before they served. When this shell dies, that pipe ends, and a
#   process that stands by gives up. FOLDER is gone when this shell ends, unless the mount was served and did not end in order:
#   who took it over, and cannot wait for this shell, sees by that how it went.
# Leaves: serving to PROGRAM, which gets OPTIONS and the number of its generation, and answering a supervisor as well.
#
# MODE: `standby` has a loaded successor wait; `cold` starts one when it is needed; `once` replaces nobody.
# Descriptors of every FUSE process: 0 what wakes it, 1 and 2 ours, 3 /dev/fuse, 4 the volume file, 5 the starter's leash (if any).
# Signals to this shell: USR1 from a process that serves. USR2 from one that stands by: it is loaded. ALRM from one whose mount is
# gone and that wants the volume for itself, to close it: answered by the file `alone` in FOLDER. HUP: replace the process that
# serves by one with the code as it lies now. TERM, INT: passed on, the mount ends.
# Ends with the code of the last FUSE process: 0 when the mount is gone in order, 2 when the volume is left with its WAL.
set -u
mode=$1 folder=$2 file=$3 node=$4 program=$5 options=$6

# What cannot be opened is left to the FUSE process to explain.
{ command exec 3<>/dev/fuse || exec 3</dev/null; } 2>/dev/null
{ command exec 4<"$file" || exec 4</dev/null; } 2>/dev/null
[ -e /proc/self/fd/5 ] || exec 5</dev/null
cd /
echo $$ >"$folder/keeper"

generation=0 # of the newest process
server=''    # the process that serves
standby=''   # the one that stands by
is_ready=''  # the server has served
is_loaded='' # the standby has loaded everything
restarts=0   # processes that were replaced
is_busy=''   # a successor is being appointed
is_ending='' # the mount is to end
early=0      # deaths in a row of processes that never got to serve
giving_up=10 # at so many

# Starts a process of the next generation; leaves its number in $started.
start() {
  generation=$((generation + 1))
  "$node" --disable-warning=ExperimentalWarning "$program" "$options" "$generation" <&7 6>&- 7<&- &
  started=$!
}

# Starts a process that waits for a line from descriptor 6 and, when that ends, goes.
stand_by() {
  # Each of these may be killed as well, for want of memory say, or leave what one that was killed had left.
  tries=0
  until rm -f "$folder/wake" && mkfifo -m 600 "$folder/wake"; do
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] || return
  done
  exec 6<>"$folder/wake" 7<"$folder/wake"
  rm -f "$folder/wake"
  is_loaded=''
  start
  standby=$started
}

# Whether PID is a child of this shell: one that was killed, for want of memory say, may have left its number to somebody else.
is_child() {
  while read -r key value _; do
    [ "$key" != PPid: ] || [ "$value" != $$ ] || return 0
  done 2>/dev/null <"/proc/$1/status"
  return 1
}

# Ends the process that stands by.
dismiss() {
  is_child "${standby:-none}" || standby=''
  [ -n "$standby" ] || return 0
  kill -KILL "$standby" 2>/dev/null
  wait "$standby" 2>/dev/null # its end is no news
  standby=''
}

# The server is dead: the next one takes over.
succeed() {
  is_busy=yes
  if [ -z "$is_ready" ]; then
    early=$((early + 1))
    [ "$early" -lt "$giving_up" ] || return 1
    sleep "0.$early"
  fi
  is_child "${standby:-none}" || standby=''
  [ -n "$standby" ] || stand_by || return 1
  server=$standby
  standby=''
  is_ready=''
  restarts=$((restarts + 1))
  echo "$restarts" >&6
  is_busy=''
  [ -z "$is_ending" ] || kill -TERM "$server"
}

# The server serves.
ready() {
  is_ready=yes
  early=0
  if [ "$mode" = standby ] && [ -z "$standby" ] && [ -z "$is_ending" ]; then stand_by; fi
}

# Replaces the server by a process that is loaded anew.
replace() {
  if [ "$mode" = once ] || [ -z "$is_ready" ] || [ -n "$is_busy" ] || [ -n "$is_ending" ]; then return; fi
  is_busy=yes
  dismiss
  if stand_by; then
    tries=0
    while [ -z "$is_loaded" ] && kill -0 "$standby" 2>/dev/null && [ "$tries" -lt 100 ]; do
      sleep 0.1
      tries=$((tries + 1))
    done
    kill -KILL "$server" # busy until its successor is appointed: another order must not end that one
  else
    is_busy=''
  fi
}

trap '' PIPE # who reads our standard error may be gone
trap ready USR1
trap 'is_loaded=yes' USR2
trap replace HUP
trap 'is_ending=yes; dismiss; : >"$folder/alone"' ALRM
trap 'is_ending=yes; kill -TERM "$server"' TERM INT

exec 7</dev/null
start
server=$started
while :; do
  wait "$server" 2>/dev/null # what the shell says of a killed process is no log line
  code=$?
  kill -0 "$server" 2>/dev/null && continue # a signal has ended the wait
  # 0 and 2: the mount is gone. The first one failed before it served: it has said why.
  if [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || [ "$mode" = once ] || { [ "$generation" -eq 1 ] && [ -z "$is_ready" ]; }; then break; fi
  succeed || break
done
dismiss
if [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || { [ "$generation" -eq 1 ] && [ -z "$is_ready" ]; }; then rm -rf "$folder"; fi
exit "$code"

#!/bin/sh
# keeper.sh MODE FOLDER FILE NODE PROGRAM OPTIONS: keeps one mount served. It holds what must outlive a FUSE process, the
# descriptors of /dev/fuse and of the volume's lock, and replaces a process that dies by one that inherits them.
# Keeps: a successor begins only when its predecessor is gone (wait), and is told by a line in a pipe that this shell holds open: how
#   many processes were replaced so far, also those that died before they served. One thing is done after the other, whenever signals
#   come: a successor that was appointed by a trap, within the making of another, was one of two that served. When this shell dies,
#   that pipe ends, and a process that stands by gives up. FOLDER is gone when this shell ends, unless the mount was served and did not
#   end in order: who took it over, and cannot wait for this shell, sees by that how it went.
# Leaves: serving to PROGRAM, which gets OPTIONS and the number of its generation, and answering a supervisor as well.
#
# MODE: `standby` has a loaded successor wait; `cold` starts one when it is needed; `once` replaces nobody.
# Descriptors of every FUSE process: 0 what wakes it, 1 and 2 ours, 3 /dev/fuse, 4 the volume file, 5 the starter's leash (if any).
# Signals to this shell: USR1 from a process that serves. USR2 from one that stands by: it is loaded. ALRM from one whose mount is
# gone and that wants the volume for itself, to close it: answered by the file `alone` in FOLDER. HUP: replace the process that
# serves by one with the code as it lies now. TERM, INT: passed on, the mount ends.
# Ends with the code of the last FUSE process, which that leaves in the file `ended` of FOLDER once the mount is gone: 0 when it is so in
# order, 2 when the volume is left with its WAL. Ends with 1 where this shell cannot go on, because it can start no process, say.
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
early=0      # deaths in a row of processes that never got to serve
giving_up=10 # at so many
is_ending='' # the mount is to end: nobody stands by any more, and nobody is replaced

# What signals ask for. A trap only notes it, for `work`: dash and busybox take the status of the command that a trap within a trap came
# after for that before the outer one, so that no `if`, `while` or `||` is to be trusted in a trap.
is_end_wanted=''         # to be passed on to the server
is_alone_wanted=''       # by a server whose mount is gone
is_replacement_wanted='' # of the server
is_dying=''              # the server was killed to be replaced: another order must not cost the successor that is loaded
awaited=''               # whose end is waited for; a trap makes it nobody's, so that a wait that was to begin ends at once

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

# Whether PID is a child of this shell, or was one and has not been waited for: its number may be somebody else's by now. One line, as
# proc_pid_stat(5) has it: PID (NAME) STATE PARENT … A shell that reads more than one may get parts of two looks at the process. Leaves
# its flags in $flags.
is_child() {
  until { read -r line <"/proc/$1/stat"; } 2>/dev/null; do
    kill -0 "$1" 2>/dev/null || return 1 # otherwise a signal has ended the look
  done
  # shellcheck disable=SC2086 # its words
  set -- ${line##*)}
  flags=${7-0}
  [ "${2-}" = $$ ]
}

# Ends the process that stands by.
dismiss() {
  ! is_child "${standby:-none}" || kill -KILL "$standby" 2>/dev/null
  while is_child "${standby:-none}"; do wait "$standby" 2>/dev/null; done # a signal ends a wait
  standby=''
}

# The server is dead: the next one takes over.
succeed() {
  if [ -z "$is_ready" ]; then
    early=$((early + 1))
    [ "$early" -lt "$giving_up" ] || return 1
    sleep "0.$early"
  fi
  [ -z "$is_dying" ] || is_replacement_wanted='' # it is what is done here
  is_ready='' is_dying=''
  is_child "${standby:-none}" || standby=''
  [ -n "$standby" ] || stand_by || return 1
  server=$standby
  standby=''
  restarts=$((restarts + 1))
  echo "$restarts" >&6
  [ -z "$is_ending" ] || is_end_wanted=yes
}

# Has the server replaced by a process that is loaded anew: ends it once that is so. One that is exiting (PF_EXITING of linux/sched.h)
# needs the one that stands by first.
replace() {
  is_child "$server" && [ $((flags & 4)) -eq 0 ] || return
  dismiss
  if stand_by; then
    tries=0
    while [ -z "$is_loaded$is_ending" ] && is_child "$standby" && [ "$tries" -lt 100 ]; do
      sleep 0.1
      tries=$((tries + 1))
    done
    if [ -z "$is_ending" ] && is_child "$server"; then
      is_dying=yes
      kill -KILL "$server" 2>/dev/null
    fi
  fi
  is_replacement_wanted='' # the supervisor repeats the order
}

# Sees to what was asked for.
work() {
  if [ -n "$is_alone_wanted" ]; then
    is_alone_wanted=''
    dismiss
    command : >"$folder/alone"
  fi
  # One that was just appointed may not know the signal yet, and die of it. The first process may; should it miss it, it gets it again.
  if [ -n "$is_end_wanted" ] && { [ -n "$is_ready" ] || [ "$restarts" -eq 0 ]; }; then
    [ -z "$is_ready" ] || is_end_wanted=''
    ! is_child "$server" || kill -TERM "$server" 2>/dev/null
  fi
  if [ -n "$is_ready" ] && [ -z "$is_ending$is_dying" ] && [ "$mode" != once ]; then
    [ -z "$is_replacement_wanted" ] || replace
    if [ "$mode" = standby ] && [ -z "$standby" ]; then stand_by; fi
  fi
}

trap '' PIPE # who reads our standard error may be gone
trap 'is_ready=yes early=0 awaited=$$' USR1
trap 'is_loaded=yes awaited=$$' USR2
trap 'is_replacement_wanted=yes awaited=$$' HUP
trap 'is_ending=yes is_alone_wanted=yes awaited=$$' ALRM
trap 'is_ending=yes is_end_wanted=yes awaited=$$' TERM INT
trap 'exit 1' EXIT # a shell that cannot fork, say, ends with 2

exec 7</dev/null
start
server=$started
while :; do
  awaited=$server
  work
  # Where another wait has met its end, or a signal takes the place of its code, that is not known. bash may have lost it then, and to wait
  # again would be to wait for ever.
  code=1
  if is_child "$server"; then
    wait "$awaited" 2>/dev/null # what the shell says of a killed process is no log line
    code=$?
    is_child "$server" && continue # a signal has ended the wait
    [ "$awaited" = "$server" ] || code=1
  fi
  { read -r code <"$folder/ended"; } 2>/dev/null
  # 0 and 2: the mount is gone. The first one failed before it served: it has said why.
  if [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || [ "$mode" = once ] || { [ "$generation" -eq 1 ] && [ -z "$is_ready" ]; }; then break; fi
  succeed || break
done
dismiss
if [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || { [ "$generation" -eq 1 ] && [ -z "$is_ready" ]; }; then
  rm -rf "$folder" || rm -rf "$folder" # it may be killed as well
fi
trap - EXIT
exit "$code"

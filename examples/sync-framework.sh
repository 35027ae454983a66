#!/usr/bin/env bash
# Three participants synchronise. Each has a status znode (ready, syncing, done). They begin when all are ready, and
# each proposes another value: the sequence numbers decide the conflict, the lowest wins, and all take its value.
#
# usage: [COORD_SERVER=HOST:PORT] examples/sync-framework.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-sync-framework-$$   # everything in this demo is below this znode
cleanup() {
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  coord rm -r -y "$base" >/dev/null 2>&1 || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ask LINE: sends a request; the first line of the reply is in $reply.
ask() {
  printf '%s\n' "$1" >&3
  read -r -t 30 reply <&3
  case $reply in ERR*) echo "$1: $reply" >&2; exit 1 ;; esac
}

# wait_for PATH: on a connection of its own. On the one with the session the server would not see, while the WAIT is not
# answered, that this process has died.
wait_for() {
  exec 5<>"/dev/tcp/${COORD_SERVER/://}"
  printf 'WAIT %s EXISTS timeout=30s\nQUIT\n' "$1" >&5
  read -r -t 40 reply <&5
  exec 5>&-
  case $reply in OK*) ;; *) echo "$1: $reply" >&2; exit 1 ;; esac
}

participant() {
  exec 3<>"/dev/tcp/${COORD_SERVER/://}" 4>&-
  local p n id first

  # ready: the status is ephemeral, so the others see it if a participant dies.
  ask "CREATE $base/status/$1 EPHEMERAL ready"
  for p in A B C; do wait_for "$base/status/$p"; done

  # syncing: all propose at once. The server numbers the proposals, so there is one order for all.
  ask "SET $base/status/$1 syncing"
  ask "CREATE $base/proposals/p- SEQ value-of-$1"

  # Read and watch in one step until all three proposals are there.
  while :; do
    ask "LS $base/proposals watch"
    read -r _ n _ <<<"$reply"
    id=${reply##*id=}; id=${id%% *}
    first=
    for ((p = 0; p < n; p++)); do
      read -r -t 30 _ name <&3
      first=${first:-$name}             # in order: the first name has the lowest number
    done
    [ "$n" -lt 3 ] || break
    read -r -t 30 _ <&3                 # EVENT children: look again
  done
  ask "UNWATCH $id"                     # the last watch is still armed, and not wanted any more

  ask "GET $base/proposals/$first"
  read -r -t 30 value <&3
  echo "$1 takes $value ($first)"
  ask "CREATE $base/result/$1 $value"
  ask "SET $base/status/$1 done"

  wait_for "$base/finish"
  ask "QUIT"
}

coord create -p "$base/status" >/dev/null
coord create "$base/proposals" >/dev/null
coord create "$base/result" >/dev/null

# The observer follows all status znodes, with their values.
exec 4<>"/dev/tcp/${COORD_SERVER/://}"
printf 'FOLLOW %s recursive data\n' "$base/status" >&4
read -r -t 30 status id _ <&4; [ "$status" = OK ]

pids=()
for p in A B C; do participant "$p" & pids+=($!); done

left=3
while [ "$left" -gt 0 ]; do
  read -r -t 30 _ type path _ <&4       # EVENT changed path=/…/A … :4
  [ "$type" != deleted ] || { echo "${path##*/} was deleted" >&2; exit 1; }
  read -r -t 30 value <&4               # the value, and its line end
  echo "${path##*/} is $value"
  [ "$value" != done ] || left=$((left - 1))
done

# No more events, please. The participants leave now, which nobody is told any more: the next line is the answer to PING.
printf 'UNWATCH %s\n' "${id#id=}" >&4
read -r -t 30 status _ <&4; [ "$status" = OK ]
coord create "$base/finish" >/dev/null
for pid in "${pids[@]}"; do wait "$pid"; done
printf 'PING\n' >&4
read -r -t 30 line <&4
[ "$line" = "OK pong" ]
echo "no events after UNWATCH"

winner=$(coord get "$base/proposals/p-0000000000")
for p in A B C; do [ "$(coord get "$base/result/$p")" = "$winner" ]; done
echo "all agree on the value with the lowest sequence number"

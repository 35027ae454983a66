#!/usr/bin/env bash
# The lock recipe step by step, as the guides to ZooKeeper show it. In practice `coord lock`, or the verb LOCK,
# does all this in one step; here one can watch it. Three contenders, each plain bash on a connection of its own.
#
# usage: [COORD_SERVER=HOST:PORT] examples/lock-step-by-step.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-lock-step-by-step-$$   # everything in this demo is below this znode
dir=$(mktemp -d)
cleanup() {
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  coord rm -r -y "$base" >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ask LINE: sends a request; the first line of the reply is in $reply.
ask() {
  printf '%s\n' "$1" >&3
  read -r -t 30 reply <&3
}
field() { local r=" $reply "; r=${r#*" $1="}; value=${r%% *}; }   # field KEY: its value is in $value

# wait_for PATH: on a connection of its own. On the one with the session the server would not see, while the WAIT is not
# answered, that this process has died.
wait_for() {
  exec 5<>"/dev/tcp/${COORD_SERVER/://}"
  printf 'WAIT %s EXISTS timeout=30s\nQUIT\n' "$1" >&5
  read -r -t 40 reply <&5
  exec 5>&-
  case $reply in OK*) ;; *) echo "$1: $reply" >&2; exit 1 ;; esac
}

contender() {
  exec 3<>"/dev/tcp/${COORD_SERVER/://}"

  # 1. Take a number. EPHEMERAL: if the contender dies, its znode goes, and the lock with it.
  ask "CREATE $base/lock/n- EPHEMERAL SEQ $1"
  field path
  local mine=${value##*/} woken=0 n before name
  echo "$1 has number $mine"

  while :; do
    # 2. Who stands before? The names come in order; the last one before mine is the one to wait for.
    ask "LS $base/lock"
    read -r _ n _ <<<"$reply"
    before=
    while [ "$n" -gt 0 ]; do
      read -r -t 30 _ name <&3
      [[ $name < $mine ]] && before=$name
      n=$((n - 1))
    done

    # 3. Nobody: the lowest number holds the lock.
    [ -n "$before" ] || break

    # 4. Else watch that one znode only: each release wakes one contender, not all of them (no herd).
    #    EXISTS with watch asks and arms in one step, so a release in between is not missed.
    #    Shorter: WAIT $base/lock/$before GONE, on another connection (see wait_for).
    ask "EXISTS $base/lock/$before watch"
    field id
    case $reply in
      OK*) read -r -t 30 _ <&3; woken=$((woken + 1)) ;;   # EVENT deleted
      *)   ask "UNWATCH $value" ;;                        # gone already
    esac
    # 5. Look again: the one before may have given up, and others may still stand before it.
  done

  mkdir "$dir/held" || { echo "$1: another contender holds the lock" >&2; exit 1; }
  echo "$1 holds the lock"
  [ "$woken" -le 1 ] || { echo "$1 was woken $woken times" >&2; exit 1; }
  wait_for "$base/go"          # the work under the lock

  # 6. Give it back. The end of the connection would do it, too.
  rmdir "$dir/held"
  echo "$1 releases the lock"
  ask "RM $base/lock/$mine"
  ask "QUIT"
}

coord create -p "$base/lock" >/dev/null
pids=()
for i in 0 1 2; do
  contender "c$i" &
  pids+=($!)
  # One behind the other, so that the order is known.
  coord watch --until exists --timeout 30s "$base/lock/n-000000000$i" >/dev/null
done
coord create "$base/go" >/dev/null    # all stand in line: the holder may end its work
for pid in "${pids[@]}"; do wait "$pid"; done
echo "all have had the lock, one at a time"

#!/usr/bin/env bash
# Leader election: two candidates, one leader. The leader is killed without warning; when the time of its session
# is over, the other candidate follows. Its token is greater, so a resource can refuse what the old leader still sends.
#
# usage: [COORD_SERVER=HOST:PORT] examples/leader-election.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-leader-election-$$   # everything in this demo is below this znode
cleanup() {
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  coord rm -r -y "$base" >/dev/null 2>&1 || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A candidate. The command runs while the candidate is the leader, and only then; if coord is killed, the kernel
# kills the command. --ttl is short here, so that the demo is: the default is 15s.
candidate() {
  exec coord elect -q --id "$1" --ttl 10s --grace 3s "$base/election" -- sh -c '
    coord set --create -q "$2" -- "$1 $COORD_FENCE" >/dev/null
    coord set --create -q "$3" -- "$1" >/dev/null
    exec sleep 1000' sh "$1" "$base/token" "$base/leader"
}

leader() {
  coord watch --until "VALUE=$1" --timeout 30s "$base/leader" >/dev/null
  echo "the leader is $(coord elect --who "$base/election")"
  [ "$(coord elect --who "$base/election")" = "$1" ]
  read -r name token <<<"$(coord get "$base/token")"
  [ "$name" = "$1" ]
}

coord create "$base" >/dev/null
candidate A & a=$!
leader A
first=$token

# B is in the line before the leader goes: its znode stands behind the one of A.
candidate B &
exec 4<>"/dev/tcp/${COORD_SERVER/://}"
while :; do
  printf 'LS %s watch\n' "$base/election" >&4
  read -r -t 30 _ n _ <&4
  for ((i = 0; i < n; i++)); do read -r -t 30 _ <&4; done
  [ "$n" -lt 2 ] || break
  read -r -t 30 _ <&4                   # EVENT children: look again
done
exec 4>&-
echo "B is a candidate"

echo "A is killed"
{ kill -KILL "$a"; wait "$a" || true; } 2>/dev/null
leader B
((token > first))
echo "the token has increased"

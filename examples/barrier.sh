#!/usr/bin/env bash
# A barrier: nobody begins before all are there. Three workers; the first two wait for the third.
#
# usage: [COORD_SERVER=HOST:PORT] examples/barrier.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-barrier-$$   # everything in this demo is below this znode
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

worker() {
  exec coord barrier -n 3 --wait 30s "$base/start" -- sh -c 'touch "$2" && echo "$1 starts"' sh "$1" "$dir/$1"
}

coord create -p "$base/start" >/dev/null
pids=()
for w in w1 w2; do worker "$w" & pids+=($!); done

# Each one that waits is an ephemeral child of the barrier. Watch the children until there are two.
exec 4<>"/dev/tcp/${COORD_SERVER/://}"
while :; do
  printf 'LS %s watch\n' "$base/start" >&4
  read -r -t 30 _ n _ <&4
  for ((i = 0; i < n; i++)); do read -r -t 30 _ <&4; done
  [ "$n" -lt 2 ] || break
  read -r -t 30 _ <&4                   # EVENT children
done
exec 4>&-
[ -z "$(ls "$dir")" ] || { echo "a worker did not wait" >&2; exit 1; }
echo "two workers are waiting"

worker w3 & pids+=($!)
for pid in "${pids[@]}"; do wait "$pid"; done
echo "all three have started"

# Who waits in vain is told so, by exit code 8.
code=0
coord barrier -q -n 2 --wait 200ms "$base/alone" || code=$?
echo "alone: exit code $code"
[ "$code" -eq 8 ]

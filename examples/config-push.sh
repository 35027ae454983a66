#!/usr/bin/env bash
# A configuration change is pushed to many hosts. Each host runs one `coord watch`, which writes the new value to
# a file and reports back; whoever changes the value waits until all hosts have reported.
#
# usage: [COORD_SERVER=HOST:PORT] examples/config-push.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-config-push-$$   # everything in this demo is below this znode
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

# What runs on each host. --initial: a host that starts later, or again, gets the present value too.
# Write and rename: whoever reads the file sees the old or the new configuration, never half of one.
host() {
  exec coord watch -q --initial "$base/url" -- sh -c '
    printf "%s\n" "$COORD_VALUE" >"$1.new" && mv "$1.new" "$1"
    coord set --create -q "$2" -- "$COORD_VALUE" >/dev/null' sh "$dir/$1.conf" "$base/applied/$1"
}

# The value is set once; the hosts get it at the same time, and nobody polls.
push() {
  coord set "$base/url" -- "$1" >/dev/null
  rollout "$1"
}

rollout() {
  for h in host1 host2 host3; do
    coord watch --until "VALUE=$1" --timeout 30s "$base/applied/$h" >/dev/null
    echo "$h has $(cat "$dir/$h.conf")"
  done
}

coord create -p "$base/applied" >/dev/null
coord create "$base/url" http://old.example >/dev/null
for h in host1 host2 host3; do host "$h" & done
rollout http://old.example

echo "push http://new.example"
push http://new.example
echo "all hosts have the new value"

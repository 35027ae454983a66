#!/usr/bin/env bash
# Group membership: a member is an ephemeral znode, which lives as long as the TCP connection of the member.
# Whoever follows the group sees members join, leave and die. The members are plain bash, without any tool.
#
# usage: [COORD_SERVER=HOST:PORT] examples/membership.sh
set -eu
[ $# -eq 0 ] || { echo "usage: [COORD_SERVER=HOST:PORT] $0" >&2; exit 2; }
export COORD_SERVER=${COORD_SERVER:-127.0.0.1:2181} LC_ALL=C

base=/example-membership-$$   # everything in this demo is below this znode
cleanup() {
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  coord rm -r -y "$base" >/dev/null 2>&1 || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One member: a session that lives while its connection does (live=tcp), and an ephemeral znode in it. Bash itself
# waits on the connection: a child process would inherit it, and keep the session when the member dies.
member() {
  exec 3<>"/dev/tcp/${COORD_SERVER/://}" 4>&-
  printf 'SESSION NEW live=tcp\nCREATE %s EPHEMERAL "process %s"\n' "$base/group/$1" "$BASHPID" >&3
  read -r status _ <&3; [ "$status" = OK ]
  read -r status _ <&3; [ "$status" = OK ]
  # A real member would do its work here. This one waits to be told to leave: by a watch and not by WAIT, since the
  # server sees that a connection has ended only when its requests are answered, and a WAIT is not until it is over.
  printf 'EXISTS %s watch\n' "$base/leave/$1" >&3
  read -r status _ <&3
  [ "$status" = OK ] || read -r _ <&3    # EVENT created
  printf 'QUIT\n' >&3
  read -r status _ <&3                   # OK bye: the session has ended, the znode is gone
}

# next TYPE NAME: the next event has to be this one.
next() {
  read -r -t 30 kind type path _ <&4
  echo "$type ${path##*/}"
  [ "$kind $type $path" = "EVENT $1 path=$base/group/$2" ] || { echo "expected $1 $2" >&2; exit 1; }
}

coord create -p "$base/group" >/dev/null
coord create "$base/leave" >/dev/null

# recursive: every child has an event of its own, with its name.
exec 4<>"/dev/tcp/${COORD_SERVER/://}"
printf 'FOLLOW %s recursive\n' "$base/group" >&4
read -r -t 30 status _ <&4; [ "$status" = OK ]

member alice & alice=$!
next created alice
member bob & bob=$!
next created bob
member carol & carol=$!
next created carol
echo "members: $(coord ls "$base/group" | xargs)"

echo "bob leaves"
coord create "$base/leave/bob" >/dev/null
next deleted bob
wait "$bob"

echo "carol is killed"
{ kill -KILL "$carol"; wait "$carol" || true; } 2>/dev/null
next deleted carol
echo "members: $(coord ls "$base/group" | xargs)"

coord create "$base/leave/alice" >/dev/null
next deleted alice
wait "$alice"

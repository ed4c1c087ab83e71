#!/bin/sh
# Sees to it that haproxy and nginx are there for `make compare`.
set -eu
missing=""
for p in haproxy nginx; do
    PATH="$PATH:/usr/sbin" command -v "$p" >/dev/null || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "compare: install$missing first; this script knows only apt-get" >&2
    exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "compare: installing$missing with apt-get (the services are not needed; only the programs are)"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing

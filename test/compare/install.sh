#!/bin/sh
# Sees to it that haproxy, nginx and caddy are there for `make compare`: those that are
# on the PATH, else of the distribution, and caddy from its module into the directory $1.
set -eu
PATH="$1:$PATH:/usr/sbin"
if ! command -v caddy >/dev/null; then
    echo "compare: building caddy into $1 (some minutes)"
    mkdir -p "$1"
    version=v2.11.9
    CGO_ENABLED=0 GOBIN="$(cd "$1" && pwd)" go install -trimpath -ldflags "-s -w -X github.com/caddyserver/caddy/v2.CustomVersion=$version" \
        "github.com/caddyserver/caddy/v2/cmd/caddy@$version"
fi
missing=""
for p in haproxy nginx; do
    command -v "$p" >/dev/null || missing="$missing $p"
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

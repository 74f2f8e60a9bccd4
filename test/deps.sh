#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Debian packages (as root) and the npm packages of
# test/interop/clients and test/oidc. Whatever cannot be installed is named, and the tests that need it are
# skipped. With CI=true that is an error instead.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # PACKAGE TEST-COMMAND...
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}
need nodejs command -v node
need npm command -v npm
need curl command -v curl
need php-cli command -v php
need php-curl php -r 'exit(extension_loaded("curl") ? 0 : 1);'
need php-pubsubhubbub-publisher test -e /usr/share/php/Pubsubhubbub/Publisher/autoload.php
need strace command -v strace
need iproute2 command -v ip  # test networks
need nftables command -v nft # and partitions in them
need util-linux command -v nsenter
need passwd command -v useradd # runs the systemd unit as its user
need e2fsprogs test -x /sbin/mkfs.ext4 -o -x /usr/sbin/mkfs.ext4
need chromium command -v chromium # logs in
need nginx-light test -x /usr/sbin/nginx # with auth_request, as is every nginx of Debian's
need caddy command -v caddy
need gcc command -v gcc                     # links the race detector
need libc6-dev test -e /usr/include/stdio.h # likewise

give_up() {
	echo "$1" >&2
	if [ "${CI:-}" = true ]; then
		exit 1
	fi
}

if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		give_up "missing: ${missing[*]} (as root: apt-get install ${missing[*]})"
	else
		echo "installing: ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		# Package lists may be old or missing: fetch them only if installing fails.
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } ||
			give_up "could not install: ${missing[*]}"
	fi
fi

for dir in test/interop/clients test/oidc; do
	if ! command -v npm >/dev/null; then
		give_up "npm is missing: the packages of $dir are not installed"
	elif [ ! -e $dir/node_modules/.package-lock.json ] || [ $dir/package-lock.json -nt $dir/node_modules/.package-lock.json ]; then
		echo "installing the npm packages of $dir"
		npm --prefix $dir ci --no-audit --no-fund --ignore-scripts --loglevel=error || give_up "npm ci failed in $dir"
	fi
done

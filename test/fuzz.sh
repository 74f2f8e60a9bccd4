#!/usr/bin/env bash
# Runs every fuzz target of the project for TIME (5s, 2m) each: test/fuzz.sh TIME. Stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: test/fuzz.sh TIME}

targets=$(grep -rnE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sed -E 's/^\.\/(.*)\/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' | sort)
if [ -z "$targets" ]; then
	echo "no fuzz target found" >&2
	exit 1
fi
while read -r dir target; do
	echo "fuzzing $dir $target for $time"
	log=$(go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" "./$dir" 2>&1) || {
		# The toolchain sometimes takes the end of the time for a failure (golang/go#75804). A finding names its input.
		if ! grep -q 'context deadline exceeded' <<<"$log" || grep -qE 'Failing input|panic' <<<"$log"; then
			echo "$log"
			exit 1
		fi
	}
	echo "$log" | grep -E '^fuzz: elapsed' | tail -n 1
done <<<"$targets"

#!/bin/sh
# exerciser.sh: `npm run test:exerciser`: the exerciser on a new volume for as long as the arguments say, with remounts in between.
# Keeps: arguments go to test/system/exerciser/main.py (--seconds 600, --operations N, --seed N to replay, --without NAMES).
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"
[ $# != 0 ] || set -- --seconds 600
exec node --disable-warning=ExperimentalWarning test/system/exerciser.ts "$@"

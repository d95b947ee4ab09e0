#!/bin/sh
# test-power.sh: `npm run test:power -- ROUNDS [SEED]`: the power cuts of test/system/power.test.ts, as many as asked for (200).
# Keeps: the seed is printed; the same seed gives the same orders, though not the same timing.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

export LITEVOL_POWER_ROUNDS="${1:-200}"
if [ -n "${2-}" ]; then export LITEVOL_TEST_SEED="$2"; fi
exec node --disable-warning=ExperimentalWarning --test --test-reporter=spec test/system/power.test.ts

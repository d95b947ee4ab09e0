#!/bin/sh
# build.sh: compiles src to dist for the published package, since Node strips no types under node_modules; the keeper, which is sh,
# is copied.
# Keeps: dist holds exactly what src has now.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

rm -rf dist
tsc --project tsconfig.build.json
cp src/mount/keeper.sh dist/mount/

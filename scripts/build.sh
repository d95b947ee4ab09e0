#!/bin/sh
# build.sh: compiles src to dist for the published package, since Node strips no types under node_modules.
# Keeps: dist holds exactly what src has now.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

rm -rf dist
tsc --project tsconfig.build.json

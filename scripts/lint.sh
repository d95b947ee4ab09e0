#!/bin/sh
# lint.sh: what can be said about the code without running it: format, lint with the import table, types, OpenAPI drift.
# Keeps: each step is named before it runs, and the first that fails ends it.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

step() { printf '== %s\n' "$1"; }

step 'format (cure: npm run format)'
prettier --check --log-level warn .
step 'lint and import table'
eslint --max-warnings 0 .
step 'types'
tsc --noEmit
if [ -f src/api/generate-openapi.ts ]; then
  step 'openapi.yaml (cure: node src/api/generate-openapi.ts)'
  node src/api/generate-openapi.ts --check
fi

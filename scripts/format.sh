#!/bin/sh
# format.sh: lays out every file as prettier does, which scripts/lint.sh holds it to.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"
prettier --write --log-level warn "${@:-.}"

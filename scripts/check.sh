#!/bin/sh
# check.sh: the quick check before a commit: lint.sh, then the tests that need no mount and no root. Under a minute.
# Leaves: everything on a real mount, and the installed package, to `npm test`.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

sh scripts/lint.sh
echo '== unit tests'
# The folders left out mount; the files left out install packages.
files=$(find test -name '*.test.ts' -not -path 'test/mount/*' -not -path 'test/system/*' -not -path 'test/posix/*' -not -path 'test/plugin/*' \
  -not -path 'test/containers/*' -not -path 'test/project/package.test.ts' | sort)
[ -n "$files" ] || litevol_die 'there is no test to run'
# shellcheck disable=SC2086 # one word a file: none of ours has a space in its name
exec node --disable-warning=ExperimentalWarning --test --test-reporter=dot --test-timeout=60000 $files

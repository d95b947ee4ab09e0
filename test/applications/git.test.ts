import { script } from './support.ts'

script(
  'git: a clone of 3000 files, gc, fsck, another branch, a merge and a clone by hard links: all sound, status clean',
  ['git'],
  `export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
  source=$2/source; repo=$1/repo
  git init -q -b main "$source"; cd "$source"
  for d in $(seq 60); do
    mkdir "d$d"
    for f in $(seq 50); do printf '%s\\n' "$d" "$f" $((d * f)) >"d$d/f$f"; done
  done
  ln -s d1/f1 link; echo '#!/bin/sh' >run; chmod +x run; head -c 3M /dev/urandom >binary
  git add -A; git commit -qm one
  git checkout -qb other; git mv d1 moved; git rm -qr d2; sed -i s/7/seven/ d3/*; git commit -qam two; git checkout -q main
  for d in $(seq 10 20); do echo more >>"d$d/f1"; done; git commit -qam three
  git clone -q --no-hardlinks "$source" "$repo"; cd "$repo"
  diff -r --no-dereference --exclude=.git "$source" .
  git repack -qad; git gc -q; git fsck --full --strict 2>&1 | { ! grep -E 'error|missing|corrupt'; }
  git checkout -q other; git -C "$source" checkout -q other
  diff -r --no-dereference --exclude=.git "$source" .
  [ -z "$(git status --porcelain)" ]
  git checkout -q main; git merge -q -m four other; git stash -q 2>/dev/null || true
  echo change >>run; git stash -q; [ -z "$(git status --porcelain)" ]; git stash pop -q; git commit -qam five
  git clone -q "$repo" "$1/second"; cd "$1/second"
  [ "$(stat -c %h .git/objects/pack/*.pack | sort -u | head -n 1)" -ge 2 ]
  git fsck --full --strict; git worktree add -q "$1/tree" -b third; [ -z "$(git -C "$1/tree" status --porcelain)" ]
  diff -r --no-dereference --exclude=.git "$repo" "$1/tree"`,
)

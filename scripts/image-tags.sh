#!/bin/sh
# image-tags.sh: prints `tags=…`, the tags that an image of $GITHUB_REF is published with; none for a pull request.
# Keeps: a version's tag is that of package.json, or this fails: an image never says another version than it is.
set -eu
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$(dirname -- "$(readlink -f -- "$0")")/../package.json")
case ${GITHUB_REF:-} in
  refs/tags/v"$version")
    case $version in
      *-*) echo "tags=$version" ;; # not a release yet: nobody who asks for the latest gets it
      *) echo "tags=$version ${version%.*} latest" ;;
    esac
    ;;
  refs/tags/*)
    echo "image-tags.sh: ${GITHUB_REF#refs/tags/} is not v$version, the version in package.json" >&2
    exit 1
    ;;
  refs/heads/main) echo 'tags=edge' ;;
  *) echo 'tags=' ;;
esac

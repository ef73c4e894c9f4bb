#!/bin/sh
# Removes everything that compose.yaml keeps: database, contents, state. Asks first; --yes doesn't.
set -eu
cd "$(dirname "$0")"
if [ "${1:-}" != "--yes" ]; then
  printf 'every workspace that only this gateway has is lost. Type "reset": '
  read -r word
  [ "$word" = "reset" ] || { echo "nothing was changed"; exit 1; }
fi
docker compose -f compose.yaml down --volumes --remove-orphans

#!/usr/bin/env bash
# Verifies a kit in Docker, in about two minutes beside the download of the images:
#   serving/verify.sh KIT     a folder that `tfmodel kit` wrote
#   serving/verify.sh RUN [--name NAME …]
#                             a run; a kit of it is made first, with options of `tfmodel kit`, and
#                             removed afterwards
# Needs Docker with compose, curl, and the ports 8500, 8501, 9090 and 3000 of 127.0.0.1, free; of a
# run tfmodel, too.
set -euo pipefail

if [ $# = 0 ] || [ ! -d "$1" ] || { [ -x "$1/verify.sh" ] && [ $# != 1 ]; }; then
  echo "usage: $0 KIT, or $0 RUN with options of tfmodel kit, such as --name NAME" >&2
  exit 2
fi
if [ -x "$1/verify.sh" ]; then
  exec "$1/verify.sh"
fi
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
tfmodel kit "$@" --output "$aside/kit"
"$aside/kit/verify.sh"

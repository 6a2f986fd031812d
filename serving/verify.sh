#!/usr/bin/env bash
# Verifies a kit in Docker, in about two minutes beside the download of the images:
#   serving/verify.sh KIT     a folder that `tfmodel kit` wrote
#   serving/verify.sh RUN     a run; a kit of it is made first, and removed afterwards
# Needs Docker with compose, curl, and the ports 8500, 8501, 9090 and 3000 of 127.0.0.1; of a run
# tfmodel, too.
set -euo pipefail

if [ $# != 1 ] || [ ! -d "$1" ]; then
  echo "usage: $0 KIT or RUN" >&2
  exit 2
fi
if [ -x "$1/verify.sh" ]; then
  exec "$1/verify.sh"
fi
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
tfmodel kit "$1" --output "$aside/kit"
"$aside/kit/verify.sh"

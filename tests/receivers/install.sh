#!/usr/bin/env bash
# Puts the receivers of tests/receivers/requirements.txt into build/receivers, unless they are there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted=$(sha256sum tests/receivers/requirements.txt)
venv=build/receivers
[ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ] && exit 0
echo "dev: installing the receivers of the sinks' tests into $venv"
/usr/bin/python3 -m venv --clear "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r tests/receivers/requirements.txt
echo "$wanted" >"$venv/installed"

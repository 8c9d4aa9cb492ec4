#!/usr/bin/env bash
# install.sh REQUIREMENTS FOLDER: a virtual environment at FOLDER with what REQUIREMENTS pins, unless it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=$(sha256sum "$1")
[ "$(cat "$2/installed" 2>/dev/null)" = "$wanted" ] && exit 0
echo "dev: installing $1 into $2"
/usr/bin/python3 -m venv --clear "$2"
"$2/bin/pip" install -q --disable-pip-version-check -r "$1"
echo "$wanted" >"$2/installed"

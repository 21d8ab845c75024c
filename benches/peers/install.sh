#!/bin/bash
# Installs what the browser benchmark compares with, into a folder of its own under target/; quick when it is there.
# usage: install.sh FOLDER
# The browsers are the installed ones: Chromium and its driver from the distribution. No other is downloaded.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
if [ -e "$folder/installed" ] && cmp -s "$here/requirements.txt" "$folder/installed"; then
  exit 0
fi
mkdir -p "$folder"
echo "installing Playwright and Selenium into $folder" >&2
python3 -m venv "$folder/venv" || { echo "python3 with venv is needed (Debian: python3-venv)" >&2; exit 1; }
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
cp "$here/requirements.txt" "$folder/installed"

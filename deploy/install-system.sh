#!/usr/bin/env bash
# Installs what `make test-system` needs of Debian's packages: a browser, and a font for it. Does nothing where they are.
set -euo pipefail

packages=(chromium fonts-dejavu-core)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "error: the browser tests want ${missing[*]} from Debian or a system built on it; there is no apt-get here" >&2
    exit 1
fi
run=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "error: ${missing[*]} have to be installed by root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    run=(sudo env DEBIAN_FRONTEND=noninteractive)
fi
echo "installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get -qq update
"${run[@]}" apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
if [[ ! -x /usr/bin/chromium ]]; then
    echo "error: ${packages[0]} is installed and there is no /usr/bin/chromium (Ubuntu's is a snap, which tests cannot drive)" >&2
    exit 1
fi

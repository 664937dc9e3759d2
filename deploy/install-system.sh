#!/usr/bin/env bash
# Installs what `make test-system` needs of Debian's packages. Does nothing where they are, and starts nothing.
set -euo pipefail

packages=(
    # the pages: a browser, and a font for it
    chromium fonts-dejavu-core
    # the container: build, run, a root file system to stand in for the official image
    podman buildah runc netavark aardvark-dns catatonit iptables mmdebstrap
    # dashboards and alert rules, asked of a real one
    prometheus prometheus-alertmanager
    # between the daemon and PostgreSQL
    pgbouncer
)
# What these packages would start at the next boot, if they were not there before.
units=(prometheus prometheus-alertmanager pgbouncer)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "error: make test-system wants ${missing[*]} from Debian or a system built on it; there is no apt-get here" >&2
    exit 1
fi
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "error: ${missing[*]} have to be installed by root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    exec sudo "${BASH_SOURCE[0]}"
fi

echo "installing ${missing[*]} …"
# Asked by the packages before they start a service (invoke-rc.d): 101 is no.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
fresh=()
for unit in "${units[@]}"; do
    [[ -e /lib/systemd/system/$unit.service ]] || fresh+=("$unit")
done
export DEBIAN_FRONTEND=noninteractive
# Others may be at it: wait for them.
apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
if [[ ${#fresh[@]} -gt 0 ]] && command -v systemctl >/dev/null; then
    systemctl --quiet disable "${fresh[@]}"
fi
if [[ ! -x /usr/bin/chromium ]]; then
    echo 'error: chromium is installed and there is no /usr/bin/chromium (Ubuntu'"'"'s is a snap, which tests cannot drive)' >&2
    exit 1
fi

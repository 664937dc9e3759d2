#!/usr/bin/env bash
# Fills node_modules with the pinned anvil and solc. Uses the machine's npm, or npm from a Python wheel in .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="$PWD/.venv/bin"

case "$(uname -s)" in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) echo "error: there is no anvil for $(uname -s); put one on PATH or name it in SETTLER_ANVIL" >&2; exit 1 ;;
esac
case "$(uname -m)" in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) echo "error: there is no anvil for $(uname -m); put one on PATH or name it in SETTLER_ANVIL" >&2; exit 1 ;;
esac

if ! command -v npm >/dev/null; then
    if [[ ! -x $bin/npm ]]; then
        echo 'no npm here: installing it into .venv …'
        "$bin/python" -m pip install -qq --disable-pip-version-check --only-binary :all: --require-hashes \
            -r deploy/node.lock
    fi
    PATH="$PATH:$bin"
fi
echo 'installing anvil and solc into node_modules …'
# Install scripts stay off: the packages hold ready binaries.
flags=(--ignore-scripts --no-audit --no-fund --loglevel=error)
npm ci "${flags[@]}" >/dev/null
if [[ ! -x node_modules/@foundry-rs/anvil-$os-$arch/bin/anvil ]]; then
    # package-lock.json knows the hash of the linux-amd64 build only; elsewhere the version alone is pinned.
    version=$(sed -n 's/.*"@foundry-rs\/anvil-linux-amd64": "\(.*\)".*/\1/p' package.json)
    npm install --no-save --no-package-lock "${flags[@]}" "@foundry-rs/anvil-$os-$arch@$version" >/dev/null
fi

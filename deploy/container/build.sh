#!/usr/bin/env bash
# Builds the image with its labels and its bill of materials (SPDX): beside it in build/, and in it.
#
#   deploy/container/build.sh [NAME:TAG]       default settler:VERSION
#
#   CONTAINER_TOOL   docker or podman; default: the one there is
#   BASE_IMAGE       what is built on; with a digest (…@sha256:…) it is pinned. Default: the Dockerfile's
#   BUILD_FLAGS      more for the build, e.g. --network=host or --build-arg=LOCK=deploy/with-parquet.lock
#   SYFT             the program that makes the bill; default: syft on PATH, else .lint/bin/syft (deploy/lint.sh install)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tool=${CONTAINER_TOOL:-$(command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker || echo podman)}
syft=${SYFT:-$(command -v syft || echo .lint/bin/syft)}
for program in "$tool" "$syft"; do
    if ! command -v "$program" >/dev/null; then
        echo "error: there is no $program here; see deploy/container/build.sh" >&2
        exit 1
    fi
done
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' settler/__init__.py)
image=${1:-settler:$version}
base=${BASE_IMAGE:-$(sed -n 's/^ARG BASE_IMAGE=//p' deploy/Dockerfile | head -n 1)}
read -ra flags <<<"${BUILD_FLAGS:-}"
if [[ $tool == podman ]]; then
    flags+=(--format=docker) # OCI's format has no HEALTHCHECK
fi

# What cannot be known without git is left empty, not guessed.
revision=$(git rev-parse HEAD 2>/dev/null || true)
created=$(git log -1 --format=%cI 2>/dev/null || true)
source=$(git remote get-url origin 2>/dev/null | sed -E 's#^(https?://)[^/@]*@#\1#' || true)
if [[ -n $revision && -n $(git status --porcelain -- settler chains contracts_abi deploy pyproject.toml) ]]; then
    revision+=-dirty
fi

"$tool" image inspect "$base" >/dev/null 2>&1 || "$tool" pull --quiet "$base"
digest=$("$tool" image inspect --format '{{range .RepoDigests}}{{.}}{{"\n"}}{{end}}' "$base" | sed -n 's/.*@//p' | head -n 1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$tool" build "${flags[@]}" --file=deploy/Dockerfile --tag="$image" \
    --build-arg=BASE_IMAGE="$base" --build-arg=BASE_DIGEST="$digest" --build-arg=VERSION="$version" \
    --build-arg=REVISION="$revision" --build-arg=CREATED="$created" --build-arg=SOURCE="$source" .

# Of the image as it was built, not of the lock: what is listed is what is there.
mkdir -p build
bill=build/settler-$version.spdx.json
"$tool" save --output="$folder/image.tar" "$image"
SYFT_CHECK_FOR_APP_UPDATE=false "$syft" scan --quiet --source-name=settler --source-version="$version" \
    "docker-archive:$folder/image.tar" --output="spdx-json=$folder/settler.spdx.json"
rm "$folder/image.tar"
cp "$folder/settler.spdx.json" "$bill"
cat >"$folder/Dockerfile" <<END
FROM $image
COPY settler.spdx.json /usr/share/sbom/settler.spdx.json
LABEL dev.settler.sbom="/usr/share/sbom/settler.spdx.json"
END
"$tool" build "${flags[@]}" --quiet --tag="$image" "$folder" >/dev/null

echo "built $image on $base ${digest:+($digest)}"
echo "bill of materials: $bill"

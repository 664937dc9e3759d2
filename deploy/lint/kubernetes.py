"""Rendered manifests, sorted by who can judge them: Kubernetes' own kinds, and those of the Prometheus operator.

python kubernetes.py RENDERED.yaml OWN.yaml OPERATOR.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml


def main(rendered: Path, own: Path, operator: Path) -> None:
    objects = [each for each in yaml.safe_load_all(rendered.read_text()) if each]
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        sys.exit(f"{rendered.name}: there twice: {twice}")
    foreign = [each for each in objects if "monitoring.coreos.com" in each["apiVersion"]]
    own.write_text(yaml.safe_dump_all([each for each in objects if each not in foreign], allow_unicode=True))
    operator.write_text(json.dumps(foreign))


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:4]))

"""`python -m deploy.grafana.generate [--runbook URL] [--into DIRECTORY]`"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.generate import chains, overview, webhooks

DASHBOARDS: Mapping[str, Callable[[str], Dashboard]] = {
    "overview": overview.dashboard,
    "chains": chains.dashboard,
    "webhooks": webhooks.dashboard,
}
INTO = Path(__file__).resolve().parent.parent / "dashboards"
RUNBOOK = "https://settler.example/docs/runbook.md"
"""Where yours can be read: each panel links to a heading of it."""


def generated(runbook: str = RUNBOOK) -> dict[str, str]:
    """The files' contents by name, the same for the same arguments."""
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    return {f"{name}.json": encoder.encode(made(runbook)) + "\n" for name, made in DASHBOARDS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.grafana.generate", description="Writes the Grafana dashboards.")
    parser.add_argument("--runbook", default=RUNBOOK, help="address of docs/runbook.md (default: %(default)s)")
    parser.add_argument("--into", type=Path, default=INTO, help="directory (default: deploy/grafana/dashboards)")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    for name, text in generated(given.runbook).items():
        (given.into / name).write_text(text)


if __name__ == "__main__":
    main()

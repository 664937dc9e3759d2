"""The committed dashboards as Grafana reads them: panels, queries, variables; and queries with variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.docs.pages import ROOT

DIRECTORY = ROOT / "deploy" / "grafana" / "dashboards"
_VARIABLE = re.compile(r"\$\{?(__\w+|[a-z]\w*)\}?")


@dataclass(frozen=True, kw_only=True)
class Board:
    name: str
    """Of its file, without the ending."""
    json: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    @property
    def panels(self) -> list[Panel]:
        """In the order they stand, without the rows' headings."""
        return [Panel(board=self.name, json=p) for p in self.json["panels"] if p["type"] != "row"]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {v["name"]: v for v in self.json["templating"]["list"]}

    @property
    def annotations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json["annotations"]["list"]
        return found


@dataclass(frozen=True, kw_only=True)
class Panel:
    board: str
    json: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.board}: {self.title}"

    @property
    def title(self) -> str:
        return str(self.json["title"])

    @property
    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json["targets"]
        return found


def boards() -> list[Board]:
    return [Board(name=path.stem, json=json.loads(path.read_text())) for path in sorted(DIRECTORY.glob("*.json"))]


def panels() -> list[Panel]:
    return [panel for board in boards() for panel in board.panels]


def queries() -> Iterator[str]:
    """Every PromQL there is: of panels and annotations."""
    for board in boards():
        for panel in board.panels:
            yield from (target["expr"] for target in panel.targets)
        yield from (annotation["expr"] for annotation in board.annotations)


def filled(text: str, values: Mapping[str, str]) -> str:
    """With the variables replaced, as Grafana does before it asks. An unknown variable is a `KeyError`."""
    return _VARIABLE.sub(lambda m: values[m[1]], text)


def names_used(text: str) -> set[str]:
    """Of variables."""
    return set(_VARIABLE.findall(text))

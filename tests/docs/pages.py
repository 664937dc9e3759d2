"""The documents as their readers' tools see them: headings, links, and what stands in fences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    kind: str
    """What stands behind the backticks: `sh`, `json`, `mermaid`."""
    note: str
    """The HTML comment on the line before it, which readers do not see; empty where there is none."""
    text: str


@dataclass(frozen=True)
class Page:
    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """Without the fences."""
        return _FENCE.sub("", self.text)

    def fences(self, kind: str) -> list[Fence]:
        found = (Fence(kind=m["kind"], note=m["note"] or "", text=m["text"]) for m in _FENCE.finditer(self.text))
        return [fence for fence in found if fence.kind == kind]

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """As GitHub makes them of headings; the second of one name has `-1` behind it."""
        found: set[str] = set()
        for heading in _HEADING.findall(self.prose):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            plain = "".join(c for c in text.lower().replace(" ", "-") if c.isalnum() or c in "-_")
            number = 0
            while (name := plain if number == 0 else f"{plain}-{number}") in found:
                number += 1
            found.add(name)
        return found


PAGES = tuple(Page(path) for path in (*sorted(DOCS.glob("*.md")), ROOT / "README.md"))


def page(name: str) -> Page:
    return Page(DOCS / name)

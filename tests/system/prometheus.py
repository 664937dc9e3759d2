"""A real Prometheus of a test's own: Debian's, on 127.0.0.1, gone when its block ends.

async with Prometheus(tmp_path, {"settler-a": "127.0.0.1:8080"}) as prometheus:
    ...
    await prometheus.now("up")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from settler.children import end_with_parent
from tests.support.daemon import until

BINARY = Path("/usr/bin/prometheus")
JOB = "settler"
SCRAPE_S = 1


@dataclass(frozen=True, kw_only=True)
class Series:
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]
    """Unix seconds, value."""

    @property
    def values(self) -> list[float]:
        """Those that are numbers."""
        return [value for _, value in self.points if not math.isnan(value)]


class PrometheusError(AssertionError):
    """It refused a query."""


class Prometheus:
    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, str],
        *,
        rules: Sequence[Path] = (),
        relabelled: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`targets`: addresses by the name that becomes `instance`. `relabelled`: values of a label that are kept under
        another, by label.
        """
        self._folder = folder
        self._config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "static_configs": [
                        {"targets": [address], "labels": {"instance": name}} for name, address in targets.items()
                    ],
                    "metric_relabel_configs": [
                        {"source_labels": [label], "regex": was, "target_label": label, "replacement": becomes}
                        for label, names in (relabelled or {}).items()
                        for was, becomes in names.items()
                    ],
                }
            ],
        }
        self.url = ""

    async def now(self, query: str) -> list[Series]:
        found = await self._get("query", query=query)
        assert found["resultType"] == "vector", found
        return [_series(one["metric"], [one["value"]]) for one in found["result"]]

    async def over(self, query: str, *, start: float, end: float, step_s: float) -> list[Series]:
        found = await self._get("query_range", query=query, start=str(start), end=str(end), step=str(step_s))
        return [_series(one["metric"], one["values"]) for one in found["result"]]

    async def label_values(self, label: str, selector: str, *, start: float, end: float) -> list[str]:
        """As Grafana asks them for `label_values(selector, label)`."""
        query = {"match[]": selector, "start": str(start), "end": str(end)}
        found: list[str] = await self._get(f"label/{label}/values", **query)
        return found

    async def __aenter__(self) -> Self:
        assert BINARY.exists(), f"there is no {BINARY}; `make test-system` installs it"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = self._folder / "prometheus.yml"
        config.write_text(json.dumps(self._config))  # JSON is YAML
        self._session = aiohttp.ClientSession()
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                BINARY,
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent(),
            )
        await until(self._is_ready, bool, what="Prometheus to be ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()

    async def _is_ready(self) -> bool:
        assert self._process.returncode is None, (self._folder / "prometheus.log").read_text()
        try:
            async with self._session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def _get(self, path: str, **query: str) -> Any:
        async with self._session.get(f"{self.url}/api/v1/{path}", params=query) as response:
            answer = await response.json()
        if answer["status"] != "success":
            raise PrometheusError(f"{query}: {answer['error']}")
        return answer["data"]


def free_port() -> int:
    """That nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _series(labels: dict[str, str], points: list[Any]) -> Series:
    return Series(labels=labels, points=[(float(at), float(value)) for at, value in points])

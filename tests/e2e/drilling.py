"""deploy/backup/drill.py for `tests.support.nursery`: the same program, without a second of importing each time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

DRILL = Path(__file__).parents[2] / "deploy" / "backup" / "drill.py"


def main() -> int:
    sys.path.insert(0, str(DRILL.parent))  # as Python does with the folder of what it runs
    spec = importlib.util.spec_from_file_location("drill", DRILL)
    assert spec is not None and spec.loader is not None
    drill = importlib.util.module_from_spec(spec)
    sys.modules["drill"] = drill
    spec.loader.exec_module(drill)
    return int(drill.main(sys.argv[1:]))

"""The artifacts are what the sources compile to, byte for byte. Needs node and solc (`make anvil`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import contracts_abi

PACKAGE = Path(contracts_abi.__file__).parent


@pytest.mark.slow
def test_compile__gives_the_artifacts_again(tmp_path: Path) -> None:
    # Where the machine has no node, `make anvil` put one beside this Python.
    search = os.environ.get("PATH", "") + os.pathsep + str(Path(sys.executable).parent)
    node = shutil.which("node", path=search)
    assert node is not None, "no node: run `make anvil`"

    subprocess.run([node, str(PACKAGE / "compile.mjs"), str(tmp_path)], check=True, timeout=100)

    committed = {path.name: path.read_bytes() for path in (PACKAGE / "artifacts").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed

"""A secret is in no error and no repr, wherever it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.config import ConfigError
from tests.config.samples import BASE, RPC, read

SECRET = "hunter2hunter2"
DATABASE = f"postgresql://settler:{SECRET}@db.example/settler"


@pytest.mark.parametrize(
    "text",
    [
        f'[database]\nurl = "{DATABASE}:x/y:z"\n',
        f'[database]\nurl = "postgresql://u:{SECRET}@[::1"\n',
        f'[database]\nurl = ["{DATABASE}"]\n',
        f'[database]\nulr = "{DATABASE}"\n',
        f'database = "{DATABASE}"\n',
        f'[api]\nlisten = "{DATABASE}"\n',
        f'[api]\nauth = "{DATABASE}"\n',
        f'[invoices]\nexpires_in_s = "{DATABASE}"\n',
        f'[chains.other]\nrpc = "wss://other.example:port/{SECRET}"\n',
        f'[chains.other]\nrpc = "ftp://other.example/{SECRET}"\n',
        f'[chains.other]\nrpc = "http://other.example:port/{SECRET}"\n',
        f'[chains.other]\nrpc = ["http://a.example/{SECRET}", 5]\n',
        f'[chains.other]\nrcp = "https://other.example/{SECRET}"\n',
        f'[chains.other]\nchain_id = "https://other.example/{SECRET}"\n',
        f'[chains.other]\nfinality = "https://other.example/{SECRET}"\n',
        f'[chains.other]\ntokens = "https://other.example/{SECRET}"\n',
        f'[chains]\nother = "https://other.example/{SECRET}"\n',
    ],
)
def test_load__a_refused_secret__is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_load__a_refused_secret_from_a_variable_or_file__is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "rpc").write_text(f"gopher://x.example/{SECRET}")
    environ = {
        "SETTLER__DATABASE__URL": f"mysql://u:{SECRET}@h/d",
        "SETTLER__CHAINS__BASE__RPC_FILE": str(tmp_path / "rpc"),
        "SETTLER__CHAINS__BASE__TOKENS": f"[{SECRET}",
    }
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, BASE, environ)
    assert len(caught.value.problems) == 3
    assert SECRET not in str(caught.value)


def test_settings__repr__shows_no_secret(tmp_path: Path) -> None:
    settings = read(tmp_path, f'[database]\nurl = "{DATABASE}"\n' + BASE)
    shown = repr(settings) + str(settings) + repr(settings.chains["base"])
    assert SECRET not in shown
    assert RPC.rpartition("/")[2] not in shown
    assert settings.database_url == DATABASE

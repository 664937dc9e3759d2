"""Where a configuration comes from: the file, and variables laid over it. Text in, plain data out.

SETTLER__DATABASE__URL=…            database.url
SETTLER__DATABASE__URL_FILE=/run/…  database.url, read from that file (for secrets)
SETTLER__CHAINS__BASE__RPC=…        chains.base.rpc
SETTLER__CHAINS__BASE__TOKENS=["USDC"]   lists and tables are written as in TOML
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from settler.config.errors import Path, Problem, key_of

PREFIX = "SETTLER__"
_FILE_SUFFIX = "_FILE"
_IPV6_AND_PORT = re.compile(r"\[[0-9A-Fa-f:.]+\]:[0-9]+", re.ASCII)
"""`api.listen`; no list."""
_MAX_BYTES = 1 << 20
"""A configuration has some kilobytes, a secret less; more is a wrong file."""


@dataclass(slots=True)
class Source:
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    """Which variable set a value, where one did."""
    problems: list[Problem] = field(default_factory=list)


def read(file: FilePath, environ: Mapping[str, str]) -> Source:
    """The file with the variables laid over it. A file that cannot be read is a problem, as is each bad
    variable.
    """
    source = Source()
    try:
        source.data = tomllib.loads(_text(file))
    except OSError as error:
        source.problems.append(
            Problem(str(file), f"cannot be read: {error.strerror}; name a configuration file with -c")
        )
    except UnicodeDecodeError as error:
        source.problems.append(Problem(str(file), f"is not UTF-8 at byte {error.start}; save it as UTF-8"))
    except tomllib.TOMLDecodeError as error:
        source.problems.append(Problem(str(file), f"is no valid TOML: {_first_line(error)}"))
    for name in sorted(environ):
        if name.startswith(PREFIX):
            _lay_over(source, name, environ)
    return source


def _text(file: FilePath) -> str:
    with file.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB")
    return content.decode("utf-8")


def _lay_over(source: Source, name: str, environ: Mapping[str, str]) -> None:
    parts = name.removeprefix(PREFIX).split("__")
    text = environ[name]
    if parts[-1].endswith(_FILE_SUFFIX):
        plain = name.removesuffix(_FILE_SUFFIX)
        if plain in environ:
            source.problems.append(Problem(name, f"is set beside {plain}; unset one of the two"))
            return
        parts[-1] = parts[-1].removesuffix(_FILE_SUFFIX)
        read_text = _secret(source, name, FilePath(text))
        if read_text is None:
            return
        text = read_text
    if not all(parts):
        source.problems.append(Problem(name, "names no key; write e.g. SETTLER__DATABASE__URL"))
        return
    _put(source, name, parts, _value(source, name, text))


def _secret(source: Source, name: str, file: FilePath) -> str | None:
    try:
        return _text(file).strip()
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    source.problems.append(
        Problem(name, f"the file {file} cannot be read: {reason}; mount it there, or unset the variable")
    )
    return None


def _value(source: Source, name: str, text: str) -> Any:
    """Lists and tables are TOML; everything else stays text, which the tables read as what they need."""
    if not text.lstrip().startswith(("[", "{")) or _IPV6_AND_PORT.fullmatch(text.strip()):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        source.problems.append(Problem(name, 'is no valid TOML; write a list as ["a", "b"], a table as { a = "b" }'))
        return None


def _put(source: Source, name: str, parts: list[str], value: Any) -> None:
    if value is None:
        return
    table = source.data
    path: list[str | int] = []
    for depth, part in enumerate(parts):
        key = _spelling(table, part, tuple(path))
        path.append(key)
        if depth == len(parts) - 1:
            table[key] = value
            source.origins[tuple(path)] = name
            return
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            source.problems.append(Problem(name, f"{key_of(tuple(path))} is not a table, so nothing can be set in it"))
            return


def _spelling(table: Mapping[str, Any], part: str, above: Path) -> str:
    """The key meant by a variable's part: variables know neither case nor hyphens, so an existing key
    wins.
    """
    for key in table:
        if key.replace("-", "_").lower() == part.lower():
            return key
    return part if above and above[-1] == "token" else part.lower()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]

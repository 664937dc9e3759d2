"""Rows written as CSV, JSON lines or Parquet, a page at a time, into a file that is whole or not there.

CSV: RFC 4180 in UTF-8, with a line of titles; text of others that a spreadsheet would take for a formula gets an
apostrophe before it (JSON lines and Parquet hold it as it is). What is left out is an empty cell, `null`, a null.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, assert_never

from settler.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from settler.domain.exporting import Cell, Columns, Kind, Row

STDOUT = "-"
DECIMALS = ((38, 18), (76, 18))
"""(digits, of them decimals) of a Parquet column of amounts: 18 decimals are those of the finest tokens. 38 digits
(decimal128), which every reader of Parquet knows, where all amounts of the file fit; else 76 (decimal256)."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class DoesNotFit(Exception):
    """An amount has more digits than the column. Caught by who can begin anew with a wider one."""


class Sheet(Protocol):
    """An open file of rows."""

    def write(self, rows: Sequence[Row]) -> None:
        """Raises `DoesNotFit`."""
        ...

    def close(self) -> None: ...


def open_sheet(format_: Format, file: IO[bytes], columns: Columns, *, digits: tuple[int, int]) -> Sheet:
    """`digits`: one of `DECIMALS`, which matters to Parquet only. Closing the sheet leaves the file open."""
    match format_:
        case Format.CSV:
            return _Csv(file, columns)
        case Format.JSONL:
            return _JsonLines(file, columns)
        case Format.PARQUET:
            return _Parquet(file, columns, digits)
        case _:
            assert_never(format_)


class _Csv:
    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        from settler.domain.exporting import Kind

        self._file = file
        self._is_free = [kind is Kind.TEXT for kind in columns.values()]
        self._put([list(columns)])

    def write(self, rows: Sequence[Row]) -> None:
        self._put([[_cell(c, is_free=free) for c, free in zip(row, self._is_free, strict=True)] for row in rows])

    def _put(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        """Nothing is held back."""


def _cell(value: Cell, *, is_free: bool) -> str:
    from settler.domain.exporting import guarded, time_text

    if value is None:
        return ""
    if isinstance(value, datetime):
        return time_text(value)
    return guarded(str(value)) if is_free else str(value)


class _JsonLines:
    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        self._file = file
        self._names = list(columns)

    def write(self, rows: Sequence[Row]) -> None:
        lines = (dict(zip(self._names, map(_json, row), strict=True)) for row in rows)
        self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())

    def close(self) -> None:
        """Nothing is held back."""


def _json(value: Cell) -> str | int | None:
    from settler.domain.exporting import Amount, time_text

    match value:
        case datetime():
            return time_text(value)
        case Amount():
            return str(value)
        case _:
            return value


class _Parquet:
    """A row group a page."""

    def __init__(self, file: IO[bytes], columns: Columns, digits: tuple[int, int]) -> None:
        pa = pyarrow()
        import pyarrow.parquet as pq

        self._kinds = list(columns.values())
        self._schema = pa.schema([(name, self._type(kind, digits)) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")

    @staticmethod
    def _type(kind: Kind, digits: tuple[int, int]) -> Any:
        from settler.domain.exporting import Kind

        pa = pyarrow()
        match kind:
            case Kind.ID | Kind.TEXT:
                return pa.string()
            case Kind.INTEGER:
                return pa.int64()
            case Kind.TIME:
                return pa.timestamp("us", tz="UTC")
            case Kind.AMOUNT:
                return (pa.decimal128 if digits[0] <= DECIMALS[0][0] else pa.decimal256)(*digits)
            case _:
                assert_never(kind)

    def write(self, rows: Sequence[Row]) -> None:
        from settler.domain.exporting import Amount

        pa = pyarrow()
        values = [[c.decimal() if isinstance(c, Amount) else c for c in column] for column in zip(*rows, strict=True)]
        try:
            arrays = [pa.array(column, type=field.type) for column, field in zip(values, self._schema, strict=True)]
        except pa.ArrowInvalid as error:
            raise DoesNotFit(str(error)) from error
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def pyarrow() -> Any:  # no types are shipped with it
    """The library, which is an extra. Raises `Failure` naming it."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise Failure(
            "--format parquet needs pyarrow; run pip install 'settler[parquet]', or choose csv or jsonl", code=USAGE
        ) from error
    return pa


@contextmanager
def whole_file(output: str, *, at_once: bool) -> Iterator[IO[bytes]]:
    """The file to write: under another name beside `output` until all is written, so that a half never looks whole.

    `-`: stdout, as it comes, or `at_once` when all is there. What exists and is no ordinary file (a pipe, a device) is
    written as it is. Raises `Failure`.
    """
    if output == STDOUT:
        sys.stdout.flush()
        with _buffered() if at_once else nullcontext(sys.stdout.buffer) as file:
            yield file
        sys.stdout.buffer.flush()
        return
    try:
        path = Path(os.path.realpath(output))  # a link stays a link
        if path.is_dir():
            raise Failure(f"--output {output}: is a directory; give a file", code=USAGE)
        with path.open("wb") if path.exists() and not path.is_file() else _renamed(path) as file:
            yield file
    except OSError as error:
        raise Failure(
            f"--output {output}: cannot be written: {error.strerror or error}; choose another file"
        ) from error


@contextmanager
def _buffered() -> Iterator[IO[bytes]]:
    """On disk, then to stdout."""
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)


@contextmanager
def _renamed(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

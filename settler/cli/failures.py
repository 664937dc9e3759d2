"""Which exception is an expected error, how it reads in a line, and which exit code it gives."""

from __future__ import annotations

import errno

from settler.cli.text import one_line

PROBLEM = 1
"""A problem was found."""
USAGE = 2
"""Wrong usage or configuration."""


class Failure(Exception):
    """An expected error of a command. Caught by `settler.cli.main`."""

    def __init__(self, message: str, *, code: int = PROBLEM) -> None:
        super().__init__(message)
        self.code = code


def lines_and_code(error: Exception) -> tuple[list[str], int] | None:
    """The lines for stderr and the exit code of an expected error; `None`: it is a bug, let it be seen."""
    import typer

    if isinstance(error, typer.TyperException):
        return _usage(error), int(error.exit_code)
    if isinstance(error, Failure):
        return [f"error: {one_line(str(error))}"], error.code
    from settler.config import ConfigError
    from settler.domain.drafting import InvalidRequest
    from settler.domain.errors import DomainError
    from settler.storage.errors import InvalidDatabaseUrl, SchemaTooNew, StorageError

    match error:
        case ConfigError():
            return [f"error: {one_line(str(p))}" for p in error.problems], USAGE
        case InvalidRequest():
            return [f"error: {one_line(str(p))}" for p in error.problems], USAGE
        case InvalidDatabaseUrl():
            return [f"error: database.url: {one_line(str(error))}"], USAGE
        case SchemaTooNew():
            return [f"error: {one_line(str(error))}; run the settler that migrated it, or a newer one"], USAGE
        case DomainError():
            return [f"error: {one_line(str(error))}"], USAGE
        case StorageError():
            said = " ".join(str(error).split())  # libpq breaks its lines
            return [f"error: the database: {one_line(said)}; see that it runs and try again"], PROBLEM
        case UnicodeEncodeError():
            return _unwritable(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EIO, filename=None):
            return [f"error: the output cannot be written: {error.strerror}"], PROBLEM
        case _:
            return None


def _unwritable(error: UnicodeEncodeError) -> tuple[list[str], int]:
    """Bytes of the command line that are no text reach us as halves of surrogate pairs, which nothing can encode."""
    text = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in text):
        return [f"error: an argument holds bytes that are not UTF-8, {text!a}; write it in UTF-8"], USAGE
    what = f"the output holds {text[:20]!a}, which {error.encoding} has no bytes for"
    return [f"error: {what}; set PYTHONIOENCODING=utf-8"], PROBLEM


def _usage(error: Exception) -> list[str]:
    """Typer's own errors, each with where to read more. A group without a command shows its help instead."""
    text = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if text.startswith("Usage:"):
        return text.splitlines()
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "settler"
    return [f"error: {where}: {one_line(text).replace('Value error, ', '').rstrip('.')}; see {where} --help"]

"""Turns what pydantic finds into problems an operator can act on, and keeps what was right for the checks
that follow.

A value that was refused is taken out and the rest read again, so that one wrong key hides no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from settler.config.errors import Path, Problem, key_of
from settler.config.source import Source
from settler.config.tables import ChainTable, File, TokenTable
from settler.config.values import shown

_MAX_ROUNDS = 50
"""Every round takes at least one value out; a file with more rounds than this has been shown enough."""


def read_tables(source: Source) -> tuple[File, set[Path]]:
    """The tables of a source; what was wrong is added to `source.problems`, its paths are returned."""
    refused: set[Path] = set()
    data: Any = source.data
    for _ in range(_MAX_ROUNDS):
        try:
            return File.model_validate(data), refused
        except ValidationError as error:
            for details in error.errors(include_url=False):
                path = _path_in(data, details["loc"])
                if path in refused:
                    continue
                refused.add(path)
                message = _message(details, path)
                origin = _origin(source, path)
                if origin is not None:
                    message += f" (set by {origin})"
                source.problems.append(Problem(key_of(path), message))
            for path in refused:
                data = _without(data, path)
    return File(), refused


def _origin(source: Source, path: Path) -> str | None:
    """The variable that set the value, or something in it."""
    return next((name for at, name in source.origins.items() if at[: len(path)] == path), None)


def _path_in(data: Any, loc: tuple[int | str, ...]) -> Path:
    """The part of pydantic's location that is keys of the file (it adds names of union members and list
    indices).
    """
    path: list[int | str] = []
    for part in loc:
        if not isinstance(data, Mapping) or part not in data:
            break
        path.append(part)
        data = data[part]
    return tuple(path)


def _without(data: Any, path: Path) -> Any:
    if not isinstance(data, Mapping) or not path:
        return data
    head, *rest = path
    if not rest:
        return {k: v for k, v in data.items() if k != head}
    return {k: _without(v, tuple(rest)) if k == head else v for k, v in data.items()}


def _message(details: ErrorDetails, path: Path) -> str:
    value = shown(details["input"])
    match details["type"]:
        case "extra_forbidden":
            return f"is not a known key; {_suggestion(path)}"
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error" | "enum":
            return f"{value} is not known; write {details['ctx']['expected']}"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{value} is not a whole number; write one without quotes"
        case "float_parsing" | "float_type":
            return f"{value} is not a number; write one without quotes"
        case "bool_parsing" | "bool_type":
            return f"{value} is neither true nor false; write one of them"
        case "string_type":
            return f"{value} is not text; write it in quotes"
        case "tuple_type":
            return _not_a_list(path)
        case "model_type" | "dict_type":
            return f"is not a table; write it as [{key_of(path)}]"
        case other:
            return f"{value} cannot be used: {details['msg']} ({other})"


def _not_a_list(path: Path) -> str:
    if path[-1:] == ("tokens",):
        chain = key_of(path[:-1])
        return f'is not a list of symbols; write ["USDC"], and a token of your own as [{chain}.token.SYMBOL]'
    return 'is not a list; write it as ["…"]'


def _suggestion(path: Path) -> str:
    """The nearest known key, or all of them."""
    known = sorted(_model_at(path[:-1]).model_fields)
    near = get_close_matches(str(path[-1]).lower(), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else "known there are " + ", ".join(known)


def _model_at(path: Path) -> type[BaseModel]:
    match path:
        case ():
            return File
        case ("chains", _):
            return ChainTable
        case ("chains", _, "token", _):
            return TokenTable
        case _:
            model = File.model_fields[str(path[0])].annotation
            assert isinstance(model, type), f"{path[0]} is no table"
            assert issubclass(model, BaseModel), f"{path[0]} is no table"
            return model

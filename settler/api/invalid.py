"""What pydantic found wrong, in our words: the path of the field, the value, and what to do. All of it at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from settler.domain.drafting import InvalidRequest
from settler.domain.errors import InvalidInput

SHOWN_CHARS = 80
M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], text: str) -> M:
    """`text` (JSON) as `model`. Raises `InvalidRequest` with everything that is wrong."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(tuple(_problems(error, model))) from error


def validate_query(model: type[M], query: Mapping[str, str]) -> M:
    """A query string's parameters as `model`. Raises `InvalidRequest` with everything that is wrong."""
    try:
        return model.model_validate_strings(query)
    except ValidationError as error:
        raise InvalidRequest(tuple(_problems(error, model))) from error


def path(loc: Sequence[int | str]) -> str:
    """`("options", 0, "pay_to")` as `options[0].pay_to`; the whole is `request`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")[:200] or "request"


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _problems(error: ValidationError, model: type[BaseModel]) -> list[InvalidInput]:
    found = error.errors(include_url=False)
    return [
        InvalidInput(path(e["loc"]), _say(e["type"], e["input"], e.get("ctx", {}), e["msg"], e["loc"], model))
        for e in found
    ]


def _say(
    type_: str,
    value: object,
    ctx: Mapping[str, Any],
    message: str,
    loc: Sequence[int | str],
    model: type[BaseModel],
) -> str:
    match type_:
        case "missing":
            return "is missing; it is required"
        case "extra_forbidden":
            return f"is not known here; known are {', '.join(_fields_at(model, loc[:-1])) or 'none'}"
        case "value_error":
            return str(ctx["error"])
        case "enum" | "literal_error":
            return f"{shown(value)} is not known; choose one of {_listed(ctx['expected'])}"
        case "string_too_long" | "too_long" if isinstance(value, str):
            return f"has {len(value)} characters; at most {ctx['max_length']} are allowed"
        case "string_too_short":
            return "is empty; give a value or leave it out"
        case "string_pattern_mismatch":
            return f"{shown(value)} does not match {ctx['pattern']}"
        case "too_long":
            return f"has too many entries; at most {ctx['max_length']} are allowed"
        case "too_short":
            return f"has {ctx['actual_length']} entries; at least {ctx['min_length']} is needed"
        case "greater_than_equal":
            return f"{shown(value)} is too small; give at least {ctx['ge']}"
        case "less_than_equal":
            return f"{shown(value)} is too large; give at most {ctx['le']}"
        case _:
            return f"{shown(value)} is not accepted: {message[:1].lower()}{message[1:]}"


def _listed(expected: str) -> str:
    """pydantic's `'a', 'b' or 'c'` as `a, b, c`."""
    return expected.replace(" or ", ", ").replace("'", "")


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The names known at that place of the model, for the remedy."""
    for part in loc:
        if isinstance(part, int):
            continue
        inner = _model_in(model.model_fields[part].annotation) if part in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)

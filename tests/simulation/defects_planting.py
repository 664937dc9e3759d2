"""Defects are planted by editing the program's source in memory, in a process of their own: no switch in the program,
nothing on disk.

    @defect(Stage.SETTLE, faults=("transaction dropped",))
    def forgets_orphans() -> None:
        \"\"\"What the second reading does not show stays as it was.\"\"\"
        edit("settler.stages.settle:Settle._commit", "missing=[t for t in held.within if not t.is_final]", "missing=[]")

An edit says what it looks for; where the program has changed, and that is not there once, it fails. What the simulator
itself takes from the program (`settler.simulation`, `chains.simulated…`, `chains.faults`) keeps the sound version.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import FunctionType

from tests.simulation.defects_needs import Need

SOUND = ("settler.simulation", "chains.simulated", "chains.faults")
"""Modules by the beginning of their name: the simulator's own."""
PROGRAM = ("settler.", "chains.")


class Stage(StrEnum):
    """Where a mistake is made."""

    READ = "reading"
    AGREE = "agreeing"
    WATCH = "watch"
    SETTLE = "settle"
    LEAD = "leading"
    MATCH = "matching"
    ASSESS = "assessing"
    BOOK = "booking"
    OPERATE = "operating"
    TELL = "telling"
    SEND = "sending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One mistake somebody could make."""

    name: str
    stage: Stage
    story: str
    """What the program then does, for people."""
    can_show: Need
    """Whether a world can show it at all, by its plan; the others need not be run."""
    faults: Sequence[str]
    """Kinds of fault that bring it out: its worlds have no others (`settler simulate --fault`). Empty: as drawn."""
    plant: Callable[[], None]
    """To be called once, before a world is made, in a process that is thrown away."""


DEFECTS: dict[str, Defect] = {}
_SOURCES: dict[object, str] = {}
"""Of functions that were edited once: a defect may need several edits of one."""
_BEFORE: list[tuple[object, str, object]] = []
"""What stood where something was set, in order."""


def defect(
    stage: Stage, can_show: Need = lambda _plan: True, *, faults: Sequence[str] = ()
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Puts a function among `DEFECTS`, named as it is, in words."""

    def put(plant: Callable[[], None]) -> Callable[[], None]:
        name = plant.__name__.replace("_", " ")
        assert name not in DEFECTS, f"two defects are called {name!r}"
        story = " ".join(inspect.cleandoc(plant.__doc__ or "").split())
        DEFECTS[name] = Defect(name=name, stage=stage, story=story, can_show=can_show, faults=faults, plant=plant)
        return plant

    return put


def edit(place: str, old: str, new: str) -> None:
    """Replaces `old` by `new` in the source of `module:function` or `module:Class.method`. `old` must occur once."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(module_name)
    *owners, name = path.split(".")
    owner: object = module
    for part in owners:
        owner = getattr(owner, part)
    held = inspect.getattr_static(owner, name)
    found = inspect.unwrap(held.__func__ if isinstance(held, classmethod | staticmethod) else held)
    assert isinstance(found, FunctionType), f"{place} is no function"
    source = _SOURCES.get(found) or inspect.getsource(found)
    assert source.count(old) == 1, f"{place} has {old!r} {source.count(old)} times; the program has changed"
    damaged = source.replace(old, new)
    code = compile(
        textwrap.dedent(damaged),
        f"<{place}, damaged>",
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    made: dict[str, object] = {}
    exec(code, vars(module), made)  # our own source, less one thought
    _SOURCES[inspect.unwrap(made[name])] = damaged  # type: ignore[arg-type] # it is a function, as before
    _set(owner, name, made[name])
    if owner is module:
        _everywhere(held, made[name])


def put(place: str, value: object) -> None:
    """Gives a module's name another value, for that module alone."""
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    _set(module, name, value)


def _everywhere(held: object, instead: object) -> None:
    """In the modules that imported it by its name."""
    for name, module in list(sys.modules.items()):
        if name.startswith(PROGRAM) and not name.startswith(SOUND):
            for each, value in list(vars(module).items()):
                if value is held:
                    _set(module, each, instead)


def _set(owner: object, name: str, value: object) -> None:
    _BEFORE.append((owner, name, vars(owner)[name]))
    setattr(owner, name, value)


def take_back() -> int:
    """Undoes every edit so far; how many names that were. For trying out whether a defect can be planted: objects made
    meanwhile keep what they have.
    """
    count = len(_BEFORE)
    while _BEFORE:
        setattr(*_BEFORE.pop())
    _SOURCES.clear()
    return count

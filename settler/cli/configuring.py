"""`settler config`: what can be configured."""

from __future__ import annotations

from settler.cli.options import AsJson, examples, group
from settler.cli.text import print_json

app = group("What can be configured.")


@app.callback()
def _config() -> None:
    """Makes it a group although it has one command."""


@app.command(epilog=examples("settler config reference | less", "settler config reference --json"))
def reference(as_json: AsJson = False) -> None:
    """Prints every setting with its meaning, type, bounds, default, example and variable, as Markdown."""
    from settler.config import reference as settings

    if as_json:
        print_json([each.as_json() for section in settings.sections() for each in section.settings])
    else:
        print(settings.markdown(), end="")

"""`settler bench`: what settler costs, measured here. A module a command."""

from __future__ import annotations

from settler.cli.bench.live import live
from settler.cli.bench.soak import soak
from settler.cli.options import examples, group

app = group("Measure what settler costs on this machine.")

app.command("live", epilog=examples("settler bench live", "settler bench live --polls 200 --json"))(live)
app.command(
    "soak", epilog=examples("settler bench soak --minutes 30 --rate 50", "settler bench soak --minutes 0.5 --json")
)(soak)

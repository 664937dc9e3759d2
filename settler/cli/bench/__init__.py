"""`settler bench`: what settler costs, measured here. A module a command."""

from __future__ import annotations

from settler.cli.bench.backfill import backfill
from settler.cli.bench.create import create
from settler.cli.bench.live import live
from settler.cli.bench.match import match
from settler.cli.bench.proof import proof
from settler.cli.bench.soak import soak
from settler.cli.bench.webhooks import webhooks
from settler.cli.options import examples, group

app = group("Measure what settler costs on this machine.")

app.command(
    "backfill",
    epilog=examples("settler bench backfill", "settler bench backfill --events 10000000 --case unpaid --json"),
)(backfill)
app.command(
    "create", epilog=examples("settler bench create", "settler bench create --at-once 16 --database URL --json")
)(create)
app.command("live", epilog=examples("settler bench live", "settler bench live --polls 200 --json"))(live)
app.command(
    "match", epilog=examples("settler bench match", "settler bench match --sizes 1000,10000000 --database URL --json")
)(match)
app.command("proof", epilog=examples("settler bench proof", "settler bench proof --repeats 20 --json"))(proof)
app.command(
    "soak", epilog=examples("settler bench soak --minutes 30 --rate 50", "settler bench soak --minutes 0.5 --json")
)(soak)
app.command("webhooks", epilog=examples("settler bench webhooks", "settler bench webhooks --events 10000 --json"))(
    webhooks
)

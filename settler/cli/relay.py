"""`settler relay`: events handed on to a message broker, and how far that is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, AsJson, Because, Config, examples, group
from settler.cli.text import Columns, Json, one_line, print_json, print_list, print_one

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.stages.nats_stream import NatsTarget
    from settler.stages.relaying import Stopped
    from settler.storage.engine import Database
    from settler.storage.relays import Standing

app = group("Events, handed on to a message broker.")

NAME_CHARS = 64
Name = Annotated[str, typer.Option("--name", help="Of this relay; each name has a position of its own.")]

_COLUMNS: Columns = {
    "name": lambda r: r["name"],
    "position": lambda r: r["position"],
    "behind": lambda r: r["behind"],
    "oldest waiting": lambda r: r["oldest_waiting_at"],
    "updated": lambda r: r["updated_at"],
}


@app.command(
    "nats",
    epilog=examples(
        "settler relay nats -c settler.toml --url nats://127.0.0.1:4222 --create-stream --once",
        "settler relay nats --url-file /run/secrets/nats-url --stream SETTLER --subject 'settler.{type}'",
        "settler relay nats --url tls://nats.example:4222 --creds settler.creds --name warehouse",
    ),
)
def nats(
    url: Annotated[
        list[str] | None,
        typer.Option("--url", help="nats:// or tls:// server; may be given several times.", metavar="URL"),
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option("--url-file", help="File with the URLs, one a line: for those with a password.", metavar="FILE"),
    ] = None,
    stream: Annotated[str, typer.Option("--stream", help="The JetStream stream that takes them.")] = "SETTLER",
    subject: Annotated[
        str, typer.Option("--subject", help="Subject of a message; {type} is the event's type.")
    ] = "settler.{type}",
    name: Name = "default",
    creds: Annotated[
        Path | None, typer.Option("--creds", help="NATS credentials (JWT and key).", metavar="FILE")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", help="Certificates to trust, PEM; default: the system's.", metavar="FILE")
    ] = None,
    create_stream: Annotated[bool, typer.Option("--create-stream", help="Make the stream if there is none.")] = False,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=5, help="How many servers keep a stream that is made.")
    ] = 1,
    in_flight: Annotated[
        int,
        typer.Option(
            "--in-flight",
            min=1,
            max=10_000,
            help="How many messages may be unconfirmed; 1: in order whatever fails.",
        ),
    ] = 256,
    once: Annotated[bool, typer.Option("--once", help="End when all there is has been handed on.")] = False,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Hands every event on to NATS JetStream, in order and at least once, until it is stopped.

    Goes on where it was stopped or killed. The stream drops what it gets twice, by the event's id. Run it beside the
    daemon; two of one name do no harm.
    """
    from settler.stages import nats_stream, relay_nats

    if not relay_nats.is_installed():
        raise Failure("NATS needs its client, which is not installed; run pip install 'settler[nats]'", code=USAGE)
    _check_name(name)
    target = nats_stream.NatsTarget(
        servers=_servers(url, url_file),
        stream=stream,
        subject=subject,
        creds=creds,
        tls_ca=tls_ca,
        create_stream=create_stream,
        replicas=replicas,
    )
    try:
        nats_stream.checked(target)
    except ValueError as error:
        raise Failure(str(error), code=USAGE) from None

    async def work(settings: Settings, db: Database) -> Stopped:
        return await _relay(settings, db, target, name=name, in_flight=in_flight, once=once)

    ended = with_database(config, work)
    if as_json:
        print_json({"name": name, "events": ended.events, "position": ended.position, "trouble": ended.trouble})
    elif ended.trouble is not None:
        raise Failure(f"{one_line(ended.trouble)}; {ended.events} events were handed on, the rest will be next time")
    elif once:
        print(f"{ended.events} events handed on, up to position {ended.position or 0}")
    return PROBLEM if ended.trouble is not None else 0


async def _relay(
    settings: Settings, db: Database, target: NatsTarget, *, name: str, in_flight: int, once: bool
) -> Stopped:
    import random
    import signal

    from settler import logs
    from settler.clock import SystemClock
    from settler.stages import relaying
    from settler.stages.relay_nats import NatsPublisher

    if not once:
        logs.configure(settings.runtime.log_format, settings.runtime.log_level)
    clock = SystemClock()
    publisher = NatsPublisher(target)
    relay = relaying.Relay(name=name, db=db, publisher=publisher, clock=clock, in_flight=in_flight)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log = logs.get_logger(__name__)
    log.info("relay.started", relay=name, stream=target.stream, hosts=target.hosts)
    try:
        ended = await relaying.run(relay, stop, clock=clock, jitter=random.random, is_once=once)
    except relaying.PublishRefused as error:
        raise Failure(one_line(str(error))) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await publisher.close()
    log.info("relay.stopped", relay=name, events=ended.events, position=ended.position)
    return ended


@app.command("status", epilog=examples("settler relay status", "settler relay status --max-behind 1000 --json"))
def status(
    max_behind: Annotated[
        int | None,
        typer.Option("--max-behind", min=0, help="Exit 1 if a relay has more than this number of events to hand on."),
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Shows how far each relay is, and how many events it has not handed on yet."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.storage import relays

        async with db.read() as conn:
            return [_view(each) for each in await relays.standings(conn)]

    found = with_database(config, work)
    print_list(found, _COLUMNS, as_json=as_json, nothing="no relays")
    return PROBLEM if max_behind is not None and any(each["behind"] > max_behind for each in found) else 0


@app.command(
    "forget", epilog=examples('settler relay forget warehouse --reason "its stream was lost, fill the new one"')
)
def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the relay.")],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Forgets how far a relay is: one of its name begins with the first event again. Stop it before."""

    async def work(_settings: Settings, db: Database) -> int | None:
        from settler.clock import SystemClock
        from settler.storage import relays

        async with db.write() as conn:
            return await relays.forget(conn, name, now=SystemClock().now(), who=operator(), reason=reason)

    if not reason.strip():
        raise Failure("--reason is empty; say why, it is kept in the audit log", code=USAGE)
    stood = with_database(config, work)
    if stood is None:
        raise Failure(f"there is no relay {one_line(name)}; see settler relay status", code=USAGE)
    print_one({"name": name, "position": stood}, as_json=as_json)


def _view(standing: Standing) -> Json:
    from settler.domain.views import time_text

    waiting = standing.oldest_waiting_at
    return {
        "name": standing.name,
        "position": standing.position,
        "behind": standing.behind,
        "oldest_waiting_at": None if waiting is None else time_text(waiting),
        "updated_at": time_text(standing.updated_at),
    }


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_CHARS or not name.isprintable() or name != name.strip():
        raise Failure(f"--name {name!r}: give 1 to {NAME_CHARS} printable characters", code=USAGE)


def _servers(urls: Sequence[str] | None, file: Path | None) -> tuple[str, ...]:
    """Those of the command line, or of the file. Raises `Failure`."""
    if (file is None) == (not urls):
        raise Failure("--url: give the server, like nats://127.0.0.1:4222, or --url-file, not both", code=USAGE)
    if file is None:
        return tuple(urls or ())
    try:
        found = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise Failure(f"--url-file {file}: cannot be read: {why}", code=USAGE) from None
    if not found:
        raise Failure(f"--url-file {file}: is empty; write a URL a line", code=USAGE)
    return found

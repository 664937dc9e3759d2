"""`settler address`: the pool of deposit addresses, and what is watched no longer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, LIMIT, AsJson, Because, Config, Limit, Why, examples, group
from settler.cli.text import Columns, Json, print_json, print_list
from settler.domain.deposits import DepositState

if TYPE_CHECKING:
    from chains.model import Address
    from settler.config import Settings
    from settler.domain.deposits import DepositAddress
    from settler.storage.engine import Database

app = group("Deposit addresses: a pool that invoices without an address of their own take from.")

MAX_FILE_BYTES = 1 << 20
_MAX_PROBLEMS = 20
"""Lines of a file that are told of at once."""
_ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"
_COLUMNS: Columns = {
    "address": lambda a: a["address"],
    "source": lambda a: a["source"],
    "path": lambda a: a["path"],
    "invoice": lambda a: a["invoice_id"],
    "free from": lambda a: a["free_from"],
    "state": lambda a: a["state"],
}


@app.command(
    epilog=examples(
        f"settler address add {_ADDRESS}", 'settler address add --file pool.txt --reason "pool for November"'
    )
)
def add(
    addresses: Annotated[list[str] | None, typer.Argument(help="Checksummed addresses.", metavar="ADDRESS")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with one address a line; # begins a comment.", metavar="FILE")
    ] = None,
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Puts addresses into the pool and watches them. Such as are there stay as they are; retired ones come back."""
    written = [*((f"address {text!r}", text) for text in addresses or ()), *(() if file is None else _lines(file))]
    if not written:
        raise Failure("no address is given; write them behind the command, or in a file for --file", code=USAGE)

    async def work(settings: Settings, db: Database) -> list[Json]:
        from settler.clock import SystemClock
        from settler.storage import deposits

        wanted = _parsed(written)
        if len(wanted) > deposits.MAX_ADDED:
            raise Failure(f"{len(wanted)} addresses are given; give at most {deposits.MAX_ADDED} at once", code=USAGE)
        quarantine = settings.deposit_policy().quarantine
        async with db.write() as conn:
            now = SystemClock().now()
            added = await deposits.add(conn, wanted, quarantine=quarantine, now=now, who=operator(), reason=reason)
            return [_view(each) for each in added]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no addresses")


@app.command("list", epilog=examples("settler address list --state free", "settler address list --json"))
def list_(
    state: Annotated[DepositState | None, typer.Option("--state", help="Only those that are so now.")] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists the addresses of the pool and those derived, newest first."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.clock import SystemClock
        from settler.storage import deposits

        async with db.read() as conn:
            found = await deposits.find(conn, now=SystemClock().now(), state=state, limit=limit)
            return [_view(each) for each in found]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no deposit addresses")


@app.command(epilog=examples("settler address preview --count 10"))
def preview(
    count: Annotated[int, typer.Option("--count", min=1, max=1_000, help="So many, from the first.")] = 5,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Shows the first addresses that [deposits] xpub gives, and gives none out: compare them with your wallet's."""
    from chains.address import to_checksum
    from settler.config import load

    key = load(config).deposit_policy().key
    if key is None:
        raise Failure("deposits.xpub: is not configured, so no addresses are derived", code=USAGE)
    shown = [
        {"path": "/".join(filter(None, (key.path, str(index)))), "address": to_checksum(key.address(index))}
        for index in range(count)
    ]
    columns: Columns = {"path": lambda a: a["path"], "address": lambda a: a["address"]}
    print_list(shown, columns, as_json=as_json, nothing="no addresses")


@app.command(epilog=examples(f'settler address retire {_ADDRESS} --reason "the wallet was closed"'))
def retire(
    address: Annotated[str, typer.Argument(help="Any address that is watched.", metavar="ADDRESS")],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Gives an address to no invoice any more and watches it no longer: money that reaches it later is not seen."""
    if not reason.strip():
        raise Failure("--reason: is empty; say why the address is not to be watched any more", code=USAGE)

    async def work(_settings: Settings, db: Database) -> None:
        from settler.clock import SystemClock
        from settler.storage import deposits

        (wanted,) = _parsed([(f"address {address!r}", address)])
        async with db.write() as conn:
            await deposits.retire(conn, wanted, now=SystemClock().now(), who=operator(), reason=reason)

    with_database(config, work)
    if as_json:
        print_json({"address": address, "state": DepositState.RETIRED.value})
    else:
        print(f"{address} is retired: no invoice gets it, and it is not watched any more")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Each line that holds something, with its place."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise Failure(f"--file {file}: cannot be read: {error.strerror}", code=USAGE) from error
    except UnicodeDecodeError as error:
        raise Failure(f"--file {file}: is not UTF-8 at byte {error.start}; save it as UTF-8", code=USAGE) from error
    if len(content) > MAX_FILE_BYTES:
        raise Failure(f"--file {file}: is larger than {MAX_FILE_BYTES} bytes; split it", code=USAGE)
    for number, line in enumerate(text.splitlines(), start=1):
        if found := line.partition("#")[0].strip():
            yield f"{file}:{number}", found


def _parsed(written: Iterable[tuple[str, str]]) -> list[Address]:
    """Raises `InvalidRequest` with the places that hold no address."""
    from chains.address import parse_address
    from settler.domain.drafting import InvalidRequest
    from settler.domain.errors import InvalidInput

    found: list[Address] = []
    problems: list[InvalidInput] = []
    for place, text in written:
        try:
            found.append(parse_address(text))
        except ValueError as error:
            problems.append(InvalidInput(place, str(error)))
    if problems:
        raise InvalidRequest(tuple(problems[:_MAX_PROBLEMS]))
    return list(dict.fromkeys(found))


def _view(each: DepositAddress) -> Json:
    from chains.address import to_checksum
    from settler.domain.views import time_text

    return {
        "address": to_checksum(each.address),
        "source": each.source.value,
        "path": each.path,
        "invoice_id": each.invoice_id,
        "free_from": time_text(each.free_from),
        "state": each.state.value,
    }

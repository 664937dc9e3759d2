"""`settler export` and `settler ledger`: columns and values are fixed, and what one sums up is what the ledger says."""

from __future__ import annotations

import asyncio
import builtins
import csv
import io
import json
import os
import re
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from chains.model import ChainId
from settler.cli.sheets import DECIMALS
from settler.storage import exporting, ledger, schema
from settler.storage.engine import Database
from tests.cli.conftest import Ran, Shell
from tests.stages.test_halt import look_until_halted
from tests.support.world import World, token

BASE = ChainId(8453)
WHATS = ("settlements", "ledger", "transfers")
Rows = list[dict[str, str]]


async def _year(url: str) -> None:
    """Settlements by two tokens, on two chains, with surplus, undone; money for nobody; hostile names."""
    db = await Database.open(url)
    try:
        world = await World.on(db, tokens=[token(), token("DAI", decimals=18)])
        await world.add_chain("base", tokens=[token(chain_id=BASE)], seed=2)
        plain = await world.invoice("100", reference='=HYPERLINK("http://x")')
        split = await world.invoice("100", reference='split, "in" two\nlines')
        both = await world.invoice("0.3", reference="both-chains")
        world.pay(plain, "101")
        world.pay(split, "60", option=0)
        world.pay(split, 40 * 10**18 + 1, option=1)
        world.pay(both, "0.1", option=0)
        world.pay(both, "0.2", option=2)
        world.send(world.sim_transfer(world.address(), "7"))
        world.send(world.sim_transfer(plain.options[0].pay_to, 0))
        for name in ("anvil", "base"):
            world.mine(5, on=name)
        await world.catch_up()
        world.clock.advance(86_400)
        undone = await world.invoice("50", reference="undone")
        kept = await world.invoice("20", reference="-1+1")
        world.pay(kept, on="anvil")
        world.mine(5)
        gone = world.pay(undone)
        world.mine(3)
        await world.catch_up()
        world.clock.advance(86_400)
        world.it.chain.reorg(4, drop=[gone.hash], length=6)
        await look_until_halted(world)
        world.send(world.sim_transfer(kept.options[0].pay_to, "3"))
        world.mine(1)
        await world.catch_up()
    finally:
        await db.dispose()


@pytest.fixture(scope="module")
def year(sqlite_template: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of `_year`, made once."""
    path = tmp_path_factory.mktemp("year") / "settler.db"
    path.write_bytes(sqlite_template.read_bytes())
    asyncio.run(_year(f"sqlite:///{path}"))
    return bytes(path.read_bytes())


@pytest.fixture
def shop(settler: Shell, year: bytes) -> Shell:
    (settler.folder / "settler.db").write_bytes(year)
    return settler


def table(ran: Ran) -> Rows:
    assert ran.code == 0, ran.err
    return list(csv.DictReader(io.StringIO(ran.out, newline="")))


def by_reference(rows: Rows, end: str) -> dict[str, str]:
    (found,) = [row for row in rows if row["reference"].endswith(end)]
    return found


def sums(rows: Rows, column: str, *by: str) -> dict[tuple[str, ...], Decimal]:
    found: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for row in rows:
        found[tuple(row[name] for name in by)] += Decimal(row[column])
    return dict(found)


def balances(shop: Shell, *args: str) -> dict[tuple[str, str, str], Decimal]:
    shown = shop("ledger", "balances", "--json", *args).json
    assert {row["balance"] for row in shown["sums"]} <= {"0.00"}
    return {
        (b["chain"], b["token"], b["account"]): Decimal(b["balance"])
        for b in shown["balances"]
        if b["balance"] != "0.00"
    }


def test_settlements__sum_to_what_the_ledger_says(shop: Shell) -> None:
    rows = table(shop("export", "settlements"))
    book = balances(shop)
    settled = -sum(total for (_, _, account), total in book.items() if account == "settled")
    surplus = -sum(total for (_, _, account), total in book.items() if account == "surplus")
    assert sums(rows, "amount_settled", "currency") == {("USD",): settled} == {("USD",): Decimal("220.3")}
    assert sums(rows, "amount_surplus", "currency") == {("USD",): surplus}
    assert sums(rows, "amount_requested", "currency") == {("USD",): Decimal("220.3")}
    assert sum(int(row["payment_count"]) for row in rows) == 6


def test_ledger__sums_to_zero_and_to_the_balances(shop: Shell) -> None:
    rows = table(shop("export", "ledger"))
    assert set(sums(rows, "amount", "chain", "token").values()) == {Decimal(0)}
    assert set(sums(rows, "amount", "entry_id").values()) == {Decimal(0)}
    by_account = {key: total for key, total in sums(rows, "amount", "chain", "token", "account").items() if total}
    assert by_account == balances(shop)
    assert {row["kind"] for row in rows} == {"receipt", "settlement", "reversal", "unreceipt"}


def test_transfers__sum_to_what_was_received(shop: Shell) -> None:
    rows = table(shop("export", "transfers"))
    received = {key[:2]: total for key, total in balances(shop).items() if key[2] == "received"}
    assert sums(rows, "amount_final", "chain", "token") == received
    (orphan,) = [row for row in rows if row["status"] == "orphaned"]
    assert (orphan["amount_final"], orphan["amount_gross"]) == ("0.00", "50.00")


def test_settlement__by_two_tokens_and_two_chains__is_one_row(shop: Shell) -> None:
    rows = table(shop("export", "settlements"))
    assert len(rows) == 5
    split, both = by_reference(rows, "lines"), by_reference(rows, "both-chains")
    assert (split["tokens"], split["chains"], split["payment_count"]) == ("USDC;DAI", "anvil", "2")
    assert (split["amount_settled"], split["amount_surplus"]) == ("100.00", "0.000000000000000001")
    assert (split["first_block"], split["last_block"]) == ("6", "6")
    assert (both["tokens"], both["chains"], both["first_block"]) == ("USDC", "base;anvil", "")
    assert len(both["tx_hashes"].split(";")) == 2
    assert [row["reference"] for row in table(shop("export", "settlements", "--chain", "base"))] == ["both-chains"]


def test_reversed_settlement__counts_nothing__and_still_tells_what_it_was(shop: Shell) -> None:
    undone = by_reference(table(shop("export", "settlements")), "undone")
    net = [undone[f"{name}"] for name in ("amount_requested", "amount_settled", "amount_surplus", "payment_count")]
    assert net == ["0.00", "0.00", "0.00", "0"]
    assert (undone["amount_settled_gross"], undone["payment_count_gross"]) == ("50.00", "1")
    assert undone["reversal_id"].startswith("rev_")
    assert undone["reversed_at"].endswith("000Z")
    assert undone["reversed_at"] > undone["settled_at"]


def test_csv__is_rfc_4180_and_no_formula(shop: Shell) -> None:
    text = shop("export", "settlements").out
    assert text.count("\r\n") == len(table(shop("export", "settlements"))) + 1
    references = [row["reference"] for row in table(shop("export", "settlements"))]
    assert sorted(references) == [
        "'-1+1",
        '\'=HYPERLINK("http://x")',
        "both-chains",
        'split, "in" two\nlines',
        "undone",
    ]
    exact = [
        json.loads(line)["reference"] for line in shop("export", "settlements", "--format", "jsonl").out.splitlines()
    ]
    assert exact == [reference.removeprefix("'") for reference in references]
    assert "-100.00" in {row["amount"] for row in table(shop("export", "ledger"))}, "numbers are left as they are"


@pytest.mark.parametrize("what", WHATS)
def test_formats__say_the_same(shop: Shell, what: str) -> None:
    import pyarrow.parquet as pq

    from settler.domain.exporting import COLUMNS, Kind, What

    columns = COLUMNS[What(what)]
    rows = table(shop("export", what))
    assert list(rows[0]) == list(columns)
    lines = [json.loads(line) for line in shop("export", what, "--format", "jsonl").out.splitlines()]
    assert all(list(line) == list(columns) for line in lines)
    as_csv = [{k: "" if v is None else str(v) for k, v in line.items()} for line in lines]
    assert [{k: v.removeprefix("'") for k, v in row.items()} for row in rows] == as_csv
    ran = shop("export", what, "--format", "parquet", "--output", "out.parquet")
    assert ran.out == f"{len(rows)} rows written to out.parquet\n"
    sheet = pq.read_table("out.parquet")
    amounts = [name for name, kind in columns.items() if kind is Kind.AMOUNT]
    assert sheet.column_names == list(columns)
    assert {str(sheet.schema.field(name).type) for name in amounts} == {"decimal128(38, 18)"}
    for line, row in zip(lines, sheet.to_pylist(), strict=True):
        assert {name: Decimal(line[name]) for name in amounts} == {name: row[name] for name in amounts}
        others = {k: v for k, v in line.items() if columns[k] not in {Kind.AMOUNT, Kind.TIME}}
        assert others == {name: row[name] for name in others}


GOLDEN = {
    "settlements": "settlement_id,invoice_id,merchant,reference,currency,amount_requested,amount_settled,"
    "amount_surplus,payment_count,settled_at,reversed_at,reversal_id,amount_requested_gross,amount_settled_gross,amount_surplus_gross,"
    "payment_count_gross,generation,chains,tokens,first_block,last_block,tx_hashes,policy",
    "ledger": "entry_id,line,kind,posted_at,account,chain,chain_id,token,token_address,amount,amount_base,transfer_id,"
    "invoice_id,settlement_id",
    "transfers": "transfer_id,chain,chain_id,token,token_address,amount_final,amount_gross,amount_gross_base,status,"
    "allocation,reason,invoice_id,payer,pay_to,tx_hash,log_index,block_number,block_hash,block_time,recorded_at,final_at",
}


@pytest.mark.parametrize("what", WHATS)
def test_columns__are_a_promise(settler: Shell, what: str) -> None:
    """Others' programs read them by name and by place. Also what an export of nothing is."""
    assert settler("export", what).out == GOLDEN[what] + "\r\n"
    assert settler("export", what, "--format", "jsonl").out == ""
    assert settler("export", what, "--format", "parquet", "-o", "empty.parquet").out.startswith("0 rows")


def test_row__as_a_file_has_it(shop: Shell) -> None:
    line = shop("export", "settlements").out.splitlines()[-1]
    assert re.fullmatch(
        r"stl_[0-9a-z]{26},inv_[0-9a-z]{26},default,undone,USD,0\.00,0\.00,0\.00,0,2026-01-03T00:00:00\.000000Z,"
        r"2026-01-04T00:00:00\.000000Z,rev_[0-9a-z]{26},50\.00,50\.00,0\.00,1,1,anvil,USDC,18,18,0x[0-9a-f]{64},"
        r'"\{""finality"":\{""anvil"":.*\}"',
        line,
    ), line


def test_period__from_is_in_it__to_is_not(shop: Shell) -> None:
    rows = table(shop("export", "ledger"))
    times = sorted({row["posted_at"] for row in rows})
    assert len(times) >= 3
    middle = times[1]
    first = table(shop("export", "ledger", "--to", middle))
    rest = table(shop("export", "ledger", "--from", middle))
    assert first + rest == rows
    assert {row["posted_at"] for row in first} == {times[0]}
    assert min(row["posted_at"] for row in rest) == middle
    day = table(shop("export", "settlements", "--from", "2020-01-01", "--to", "2020-01-02"))
    assert day == []
    by_then = sums(first, "amount", "chain", "token", "account")
    assert {key: total for key, total in by_then.items() if total} == balances(shop, "--at", middle)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("settlements --from yesterday", "--from 'yesterday' is no time"),
        ("settlements --to 2026-02-30", "--to '2026-02-30' is no time"),
        ("settlements --to 2026-01-01T00:00:00", "--to '2026-01-01T00:00:00' is no time"),
        ("ledger --from 2026-01-02 --to 2026-01-02", "is no period"),
        ("transfers --chain nowhere", "--chain 'nowhere' is not in the database; there are anvil, base"),
        ("invoices", "is not one of 'settlements', 'ledger', 'transfers'"),
        ("ledger --format xlsx", "'--format'"),
        ("ledger --output .", "--output .: is a directory"),
        ("ledger --output missing/out.csv", "--output missing/out.csv: cannot be written: No such file"),
    ],
)
def test_wrong_usage__is_one_line_that_names_the_option(shop: Shell, args: str, said: str) -> None:
    ran = shop("export", *args.split())
    assert ran.code == (1 if "missing" in args else 2)
    assert len(ran.errors) == 1
    assert said in ran.errors[0]


def test_output__is_whole_or_as_it_was(shop: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shop.folder / "out.csv"
    assert shop("export", "ledger", "--output", "out.csv").code == 0
    before = file.read_bytes()
    assert before.decode() == shop("export", "ledger").out

    def broken(*_: object) -> Any:
        raise RuntimeError("half way")

    monkeypatch.setattr(ledger, "line_of", broken)
    with pytest.raises(RuntimeError, match="half way"):
        shop("export", "ledger", "--output", "out.csv")
    assert file.read_bytes() == before
    assert [path for path in shop.folder.iterdir() if path.name.endswith(".part")] == []


def test_output__link_and_device__stay_what_they_are(shop: Shell) -> None:
    (shop.folder / "real.csv").write_text("old")
    (shop.folder / "link.csv").symlink_to("real.csv")
    os.mkfifo(shop.folder / "pipe")
    reader = os.open(shop.folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert shop("export", "transfers", "--output", "link.csv").code == 0
        assert shop("export", "settlements", "--output", "pipe").code == 0
        assert os.read(reader, 13) == b"settlement_id"
    finally:
        os.close(reader)
    assert (shop.folder / "link.csv").is_symlink()
    assert (shop.folder / "real.csv").read_text().startswith("transfer_id,")
    assert (shop.folder / "pipe").is_fifo()


def test_pages__leave_nothing_out_and_double_nothing(shop: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {what: shop("export", what).out for what in WHATS}
    monkeypatch.setattr(exporting, "PAGE", 2)
    assert {what: shop("export", what).out for what in WHATS} == whole


def test_parquet__amount_of_many_digits__is_exact_or_refused(shop: Shell) -> None:
    import pyarrow.parquet as pq

    def become(amount: int) -> None:
        async def write() -> None:
            db = await Database.open(f"sqlite:///{shop.folder / 'settler.db'}")
            async with db.write() as conn:
                last = sa.select(sa.func.max(schema.transfers.c.id)).scalar_subquery()
                await conn.execute(
                    sa.update(schema.transfers).where(schema.transfers.c.id == last).values(amount=amount)
                )
            await db.dispose()

        asyncio.run(write())

    become(10**50 + 1)
    assert shop("export", "transfers", "--format", "parquet", "-o", "wide.parquet").code == 0
    sheet = pq.read_table("wide.parquet")
    assert str(sheet.schema.field("amount_gross").type) == f"decimal256{DECIMALS[1]}".replace("'", "")
    assert max(row["amount_gross"] for row in sheet.to_pylist()) == Decimal(f"1{'0' * 44}.000001")
    become(2**256 - 1)
    ran = shop("export", "transfers", "--format", "parquet", "-o", "wider.parquet")
    assert (ran.code, "choose csv or jsonl" in ran.errors[0]) == (1, True)
    assert not (shop.folder / "wider.parquet").exists()
    assert str(2**256 - 1) in shop("export", "transfers").out


def test_parquet__without_the_library__names_the_extra(shop: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    ran = shop("export", "ledger", "--format", "parquet", "-o", "x.parquet")
    assert (ran.code, ran.errors) == (
        2,
        ["--format parquet needs pyarrow; run pip install 'settler[parquet]', or choose csv or jsonl"],
    )
    assert shop("export", "ledger").code == 0


def test_ledger_balances__for_people__shows_that_they_sum_to_zero(shop: Shell) -> None:
    ran = shop("ledger", "balances")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["CHAIN", "TOKEN", "ACCOUNT", "BALANCE", "BASE_UNITS"]
    assert ["anvil", "USDC", "sum", "0.00", "0"] in rows
    assert [row for row in rows if row[:3] == ["base", "USDC", "received"]] == [
        ["base", "USDC", "received", "0.20", "200000"]
    ]
    assert shop("ledger", "balances", "--at", "soon").errors[0].startswith("--at 'soon' is no time")


def test_ledger_balances__lopsided_books__are_a_problem(shop: Shell) -> None:
    async def tamper() -> None:
        db = await Database.open(f"sqlite:///{shop.folder / 'settler.db'}")
        async with db.write() as conn:
            await conn.execute(sa.text("DROP TRIGGER ledger_lines_no_update"))
            line = schema.ledger_lines
            await conn.execute(
                sa.update(line).where(line.c.account == "settled", line.c.amount == 10**8).values(amount=1)
            )
        await db.dispose()

    asyncio.run(tamper())
    ran = shop("ledger", "balances")
    assert ran.code == 1
    assert any(line.split()[2:4] == ["sum", "99.999999"] for line in ran.out.splitlines())

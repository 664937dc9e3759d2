"""`kill -9` of the real process at random moments under load: nothing lost, nothing doubled (RULES.md section 8, I5).

Two daemons read one chain while payments flow: one is killed and started again, round after round, one is left
alone. At the
end both databases say the same.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from chains.model import Address
from settler.anvil import Anvil, find_anvil
from tests.support import evm
from tests.support.daemon import (
    Api,
    ChainTable,
    Json,
    Process,
    TokenTable,
    due,
    new_address,
    option,
    pay_to,
    show,
    write_config,
)
from tests.support.dump import audit, dump

ROUNDS = 20
INVOICES = 60
UNIT = 10**6
FINALITY = 3
LONGEST_LIFE_S = 1.2
"""Between the start of a process and its end: some die while they start, some in the middle of a tick."""
SEED = 20261122


@pytest.mark.timeout(300)
async def test_killed_at_random_moments_under_load__ends_like_an_undisturbed_run(db_url: str, tmp_path: Path) -> None:
    drawn = random.Random(SEED)
    async with Anvil(find_anvil(), block_time_s=0.25) as node:
        token = await evm.deploy_token(node)
        chain = ChainTable(rpc=node.url, tokens=[TokenTable(address=token)], poll_interval_s=0.05)
        calm_config = write_config(_folder(tmp_path, "calm"), chain)
        hit_config = write_config(_folder(tmp_path, "hit"), chain, database=db_url)
        ways = [[option(new_address())] for _ in range(INVOICES)]
        calm, hit = Process(calm_config), Process(hit_config)
        async with calm:
            async with hit:
                made = await _create(calm.api, ways)
                assert [due(i) for i in made] == [due(i) for i in await _create(hit.api, ways)]
            head = (await evm.head(node)).number
            payers = asyncio.create_task(_pay(node, token, made, drawn), name="payers")
            lives: list[float] = []
            for _ in range(ROUNDS):
                await hit.start()
                lives.append(drawn.uniform(0.05, LONGEST_LIFE_S) if len(lives) % 2 else drawn.uniform(0.8, 2.5))
                await asyncio.sleep(lives[-1])
                await hit.kill()
            payments = await payers
            last = (await evm.head(node)).number
            async with hit:
                for process in (calm, hit):
                    await process.api.decided(last, "anvil")
                    assert await _settled(process.api) == INVOICES
                # no new blocks: both come to the same height
                await node.rpc("evm_setIntervalMining", 0)
                final = (await evm.head(node)).number - FINALITY
                for process in (calm, hit):
                    await process.api.decided(final, "anvil")
                for process in (calm, hit):
                    assert await process.signal(signal.SIGTERM) == 0
        assert last > head
    calm_url = f"sqlite:///{calm_config.parent / 'settler.db'}"
    await audit(db_url)
    (await dump(db_url)).assert_same_outcome(await dump(calm_url))
    show(
        f"{db_url.split(':', maxsplit=1)[0]}: {ROUNDS} kills, lives {min(lives):.2f} to {max(lives):.2f} s, {INVOICES} invoices, "
        f"{payments} payments over {last - head} blocks: same outcome as undisturbed"
    )


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


async def _create(api: Api, ways: list[list[dict[str, str]]]) -> list[Json]:
    return [await api.create(f"{10 + number}.00", *way, reference=f"kill-{number}") for number, way in enumerate(ways)]


async def _pay(node: Anvil, token: Address, made: list[Json], drawn: random.Random) -> int:
    """Each invoice in one to three parts, some with a surplus, until the kills are over; the number of payments."""
    batch = await evm.deploy_batch_payout(node)
    payer = node.accounts[1]
    await evm.mint(node, token, evm.address_of(payer), 10**6 * UNIT)
    await evm.mint(node, token, batch, 10**6 * UNIT)
    payments = 0
    for number, invoice in enumerate(made):
        to = pay_to(invoice)
        owed = due(invoice)
        match number % 4:
            case 0:
                await evm.transfer(node, payer, token, to, owed)
                payments += 1
            case 1:
                for part in (owed // 3, owed - owed // 3):
                    await evm.transfer(node, payer, token, to, part)
                    payments += 1
            case 2:  # two equal transfers in one transaction
                await evm.repeat(node, payer, batch, token, to, owed // 2, 2)
                payments += 2
            case _:
                await evm.transfer(node, payer, token, to, owed + UNIT)
                payments += 1
        await asyncio.sleep(drawn.uniform(0.1, 0.6))
    return payments


async def _settled(api: Api) -> int:
    return len(await api.every("/v1/invoices", status="settled"))

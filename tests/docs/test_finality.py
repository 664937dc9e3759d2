"""docs/finality.md says of each chain what the registry says."""

from __future__ import annotations

from chains import registry
from chains.registry import ChainFacts
from settler.domain.finality import ByTag
from tests.docs.pages import DOCS, page


def rows() -> str:
    """The rows of its table: every main net."""
    return "".join(_row(chain) for chain in registry.all_chains() if not chain.is_testnet)


def _row(chain: ChainFacts) -> str:
    policy, at_least_s = "*choose*", 0.0
    if chain.finality is not None:
        by_tag = ByTag(tag=chain.finality.tag, min_depth=chain.finality.min_depth)
        policy = f'`"{by_tag.tag}"`'
        if by_tag.min_depth:
            at_least_s = by_tag.min_depth * chain.block_time_s
            policy = f'`{{ tag = "{by_tag.tag}", min_depth = {by_tag.min_depth} }}`'
    low, high = (max(at_least_s, s) for s in chain.typical_finality_s)
    block = f"{chain.block_time_s:g} s"
    return f"| {chain.name} ({chain.chain_id}) | `{chain.key}` | {block} | {policy} | {_span(low, high)} |\n"


def _span(low: float, high: float) -> str:
    if high < 120:
        return f"{low:.2g} to {high:.2g} s"
    if high < 7_200:
        return f"{low / 60:.0f} to {high / 60:.0f} min" if low >= 60 else f"{low:g} s to {high / 60:.0f} min"
    return f"{low / 3_600:.1f} to {high / 3_600:.1f} h"


def test_finality__the_table_of_chains__is_that_of_the_registry() -> None:
    """To renew it: `python -m tests.docs.test_finality`."""
    shown = page("finality.md").text.split("<!-- end -->")[0].split("| --- | --- | --- | --- | --- |\n")[1]
    assert shown == rows()


def test_finality__every_main_net__has_its_tags_explained() -> None:
    section = page("finality.md").text.split("## What the tags mean")[1].split("##")[0]
    names = {chain.name for chain in registry.all_chains() if not chain.is_testnet}
    short = {"Arbitrum One": "Arbitrum", "Avalanche C-Chain": "Avalanche"}
    assert {name for name in names if short.get(name, name) not in section} == set()


def test_comparison__counts_the_main_nets() -> None:
    count = sum(not chain.is_testnet for chain in registry.all_chains())
    assert f"EVM chains, {count} main nets known" in page("comparison.md").text


if __name__ == "__main__":
    path = DOCS / "finality.md"
    before, rest = path.read_text().split("| --- | --- | --- | --- | --- |\n", 1)
    path.write_text(f"{before}| --- | --- | --- | --- | --- |\n{rows()}<!-- end -->{rest.split('<!-- end -->', 1)[1]}")

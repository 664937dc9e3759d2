"""The data of chains/data/proof.toml, and what is said of chains it does not have."""

from __future__ import annotations

import pytest

from chains.model import ChainId
from chains.proof import Status, Unprovable, known_chains, profile_of
from chains.proof.receipt import _TAIL
from chains.registry import chain_by_id

NO_TRIE = {324}


def test_profile_of__every_chain_in_the_data__is_whole() -> None:
    for chain_id in set(known_chains()) - NO_TRIE:
        profile = profile_of(chain_id)
        assert [field.name for field in profile.header_fields][4:6] == ["transactionsRoot", "receiptsRoot"]
        assert set(profile.receipt_types) >= {0, 1, 2, 3, 4}
        assert {name for tail in profile.receipt_types.values() for name in tail} <= set(_TAIL)
        assert profile.basis


def test_profile_of__every_chain_in_the_data__is_in_the_registry() -> None:
    assert all(chain_by_id(chain_id) is not None for chain_id in known_chains())


def test_profile_of__verified__only_where_blocks_are_recorded_here() -> None:
    verified = {each for each in set(known_chains()) - NO_TRIE if profile_of(each).status is Status.VERIFIED}
    assert verified == {1, 31337}


def test_profile_of__unknown_chain__says_what_to_do() -> None:
    with pytest.raises(Unprovable, match=r"chain 43114.*not known.*proof\.toml.*without proofs"):
        profile_of(ChainId(43114))


def test_profile_of__zksync__says_that_there_is_no_trie() -> None:
    with pytest.raises(Unprovable, match=r"chain 324 has no receipts to prove.*without proofs"):
        profile_of(ChainId(324))

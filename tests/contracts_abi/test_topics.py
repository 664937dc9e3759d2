from __future__ import annotations

import pytest
from eth_utils.crypto import keccak

from contracts_abi import topics


@pytest.mark.parametrize(("topic", "signature"), topics.SIGNATURES.items(), ids=topics.SIGNATURES.values())
def test_topics__are_the_hashes_of_their_signatures(topic: bytes, signature: str) -> None:
    assert keccak(text=signature) == topic


def test_topics__each_constant_is_listed_once() -> None:
    constants = [value for name, value in vars(topics).items() if name.isupper() and isinstance(value, bytes)]
    assert sorted(constants) == sorted(topics.SIGNATURES)

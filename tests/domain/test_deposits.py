"""The words of deposit addresses, and where the addresses come from unless somebody says otherwise."""

from __future__ import annotations

from datetime import timedelta

from settler.domain.deposits import POOL_ONLY, DepositPolicy, DepositState, Source
from settler.domain.derivation import read_key
from tests.support.wallet import XPUB


def test_policy__unless_a_key_is_given__is_the_pool_alone_with_a_week_of_rest() -> None:
    assert DepositPolicy() == POOL_ONLY
    assert (POOL_ONLY.key, POOL_ONLY.quarantine) == (None, timedelta(days=7))
    assert DepositPolicy(key=read_key(XPUB, "0")) != POOL_ONLY


def test_policy__as_text__shows_nothing_of_the_key() -> None:
    assert XPUB not in repr(DepositPolicy(key=read_key(XPUB, "0")))


def test_words__are_those_that_are_stored() -> None:
    """A changed word is a row that no query finds any more."""
    assert [s.value for s in Source] == ["pool", "derived"]
    assert [s.value for s in DepositState] == ["free", "taken", "quarantined", "retired"]

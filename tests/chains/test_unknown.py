from __future__ import annotations

import pytest

from chains.classify import classify
from chains.errors import ChainError, Transient, Unknown
from chains.unknown import KEPT_MAX, UnknownWords


class Told(list[tuple[str, str]]):
    def __call__(self, provider: str, text: str) -> None:
        self.append((provider, text))


def test_note__same_words_with_other_numbers__are_told_once() -> None:
    told = Told()
    words = UnknownWords(told)
    for height in range(100, 110):
        words.note("a.example", classify(f"quota of unicorns at {height}, request 7f3a9c{height}ee, 0xA{height}"))
    assert told == [("a.example", "quota of unicorns at 100, request 7f3a9c100ee, 0xA100")]


def test_note__other_words_or_another_provider__are_told_too() -> None:
    told = Told()
    words = UnknownWords(told)
    words.note("a.example", Unknown("quota of unicorns"))
    words.note("b.example", Unknown("quota of unicorns"))
    words.note("a.example", Unknown("stable is empty"))
    assert told == [
        ("a.example", "quota of unicorns"),
        ("b.example", "quota of unicorns"),
        ("a.example", "stable is empty"),
    ]


@pytest.mark.parametrize("error", [classify("rate limit"), classify("header not found"), Transient("?"), ValueError()])
def test_note__what_is_known__is_passed_over(error: ChainError) -> None:
    told = Told()
    UnknownWords(told).note("a.example", error)
    assert told == []


def test_note__endless_noise__is_told_so_often_and_no_more() -> None:
    told = Told()
    words = UnknownWords(told)
    for number in range(2 * KEPT_MAX):
        words.note("a.example", Unknown("unicorn" * number))
    assert len(told) == KEPT_MAX

"""Errors of the pure core: all are about input that a caller can mend, and say how."""

from __future__ import annotations


class DomainError(Exception):
    """Base of the core's errors."""


class InvalidInput(DomainError):
    """A value that cannot be accepted. Caught by the API (422) and the CLI (exit 2).

    `field`: path of the value in the request, e.g. `options[0].pay_to`. The message names value and remedy.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Conflict(DomainError):
    """A request that is well formed but contradicts the present state. Caught by the API (409) and the CLI (exit 2)."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotFound(DomainError):
    """No such object. Caught by the API (404) and the CLI (exit 2)."""

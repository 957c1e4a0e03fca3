"""Findings of `storefs doctor`, and how one is made by a call that may hang or refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from storefs.errors import Quit
from storefs.mountpoint import PATIENCE, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `step` says what to do, empty where nothing is."""

    level: Level
    what: str
    step: str = ""

    def __str__(self) -> str:
        return f"{self.level:<6}{self.what}" + (f"  — {self.step}" if self.step else "")


def guarded(
    what: str, step: str, call: Callable[[], str], patience: float = PATIENCE
) -> Iterator[Finding]:
    """The outcome of a call that may hang or refuse, made by a child: ok with what it says."""

    def answer() -> bytes:
        try:
            return b" " + call().encode(errors="surrogateescape")
        except Quit as refusal:
            return b"!" + str(refusal).encode(errors="surrogateescape")

    try:
        found = ask(answer, patience).decode(errors="replace")
    except TimeoutError:
        yield Finding("fail", f"{what}: no answer within {patience:g} s", step)
    except OSError as error:
        yield Finding("fail", f"{what}: {error.strerror}", step)
    else:
        if found.startswith("!"):
            yield refused(found[1:], step)
        elif found[1:]:
            yield Finding("ok", found[1:])


def refused(refusal: Quit | str, step: str) -> Finding:
    """Messages end in what to do, behind the last colon; or in what the system said."""
    cause, colon, remedy = str(refusal).rpartition(": ")
    if not colon or remedy[:1].isupper():
        return Finding("fail", str(refusal), step)
    return Finding("fail", cause, remedy)

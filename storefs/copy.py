"""`storefs copy`: the documents of one store into another, bytes as they are stored.

Uses the backends directly, by compare-and-swap, so that mounts and other programs may work on
both sides meanwhile. Each run compares contents anew: one that was interrupted is simply repeated.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from storefs import sides
from storefs.aside import SetAside
from storefs.backends.contract import Delete, Described, Put
from storefs.content import same_value
from storefs.errors import Conflict, Exit, Quit, StoreError, Unavailable
from storefs.mirror import digest_of
from storefs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from storefs.backends.contract import Backend, Blob, Change, Entry
    from storefs.sides import Side

_CHUNK = 128
"""Documents read and committed together, if they are small."""

_CHUNK_BYTES = 32 << 20
_TIMEOUT = 60.0
"""Seconds for one commit of a chunk."""

_ATTEMPTS = 5
"""Times that a document is compared anew because it changed, or the answer got lost."""

_SHOWN = 10
"""Lines about documents that were not copied."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options of the command say."""

    dry_run: bool = False
    delete: bool = False
    overwrite: bool = True


class Action(Enum):
    """What becomes of one document of the source."""

    PUT = "put"
    REPLACE = "replaced"
    SAME = "same"
    KEEP = "kept"


def decide(path: str, data: bytes, present: bytes | None, wishes: Wishes, *, exact: bool) -> Action:
    """`present`: what the target holds. `exact`: it keeps bytes, not only JSON values."""
    if present is None:
        return Action.PUT
    if data == present or (not exact and same_value(path, data, present)):
        return Action.SAME
    return Action.REPLACE if wishes.overwrite else Action.KEEP


def run(source: Side, target: Side, wishes: Wishes) -> Exit:
    """Copy, verify, and print one line. Raises Quit; the same command then goes on."""
    sides.check_apart(source, target)
    with ExitStack() as undo:
        one = undo.enter_context(sides.opened(source, writes=False))
        if wishes.dry_run and sides.is_missing(target):
            other = undo.enter_context(sides.nothing_yet(target))
        else:
            other = undo.enter_context(sides.opened(target, writes=not wishes.dry_run))
        if one.identity == other.identity:
            raise Quit(Exit.USAGE, f"both sides are {one.identity}: name two stores")
        aside = SetAside(target, other.identity)
        undo.callback(aside.close)
        copy = Copy(one, other, wishes, aside.keep)
        try:
            code = copy.run()
        except Unavailable as error:
            raise Quit(
                Exit.UNREACHABLE, f"{error}; the same command again goes on where it stopped"
            ) from None
        except StoreError as error:
            raise Quit(Exit.FAILED, str(error)) from None
        print(copy.summary(aside.place), flush=True)
        return code


@dataclass(slots=True)
class Copy:
    """One run of it. `keep` makes a version durable on this machine before it is replaced."""

    source: Backend
    target: Backend
    wishes: Wishes
    keep: Callable[[str, bytes], None]
    counts: dict[Action, int] = field(default_factory=lambda: dict.fromkeys(Action, 0))
    extra: int = 0
    """Documents of the target alone that stay."""
    deleted: int = 0
    troubles: list[str] = field(default_factory=list)
    """One line for each document that was not copied."""
    wrong: int = 0
    """Documents that were written, and read back as something else."""
    _written: dict[str, bytes] = field(default_factory=dict)
    """Digests."""

    def run(self) -> Exit:
        """Raises StoreError, Quit."""
        theirs, ours = self.source.snapshot(), self.target.snapshot()
        if self.wishes.delete and ours and not theirs:
            raise Quit(
                Exit.KEPT_BACK,
                f"{self.source.identity} holds no documents, and --delete would empty "
                f"{self.target.identity}: leave --delete out",
            )
        done = 0
        with Progress("copying", len(theirs)) as progress:
            for chunk in chunks(theirs):
                progress.show(done)
                self._copy(chunk, ours)
                done += len(chunk)
        self._remove(sorted(ours.keys() - theirs.keys()))
        self._verify()
        for line in self.troubles[:_SHOWN]:
            print(f"storefs: {line}", file=sys.stderr)
        if more := len(self.troubles[_SHOWN:]):
            print(f"storefs: and {more} more", file=sys.stderr)
        if self.wrong:
            return Exit.FAILED
        return Exit.KEPT_BACK if self.troubles else Exit.DONE

    def summary(self, place: str) -> str:
        """One line. `place`: where replaced versions are kept."""
        words = [f"{self.counts[one]} {one.value}" for one in Action if one is not Action.KEEP]
        counted = {
            "deleted": self.deleted, "only in the target": self.extra,
            "not copied": len(self.troubles) - self.wrong, "wrong": self.wrong,
        }  # fmt: skip
        words += [f"{count} {word}" for word, count in counted.items() if count]
        head = "would copy " if self.wishes.dry_run else ""
        tail = f"; replaced versions are kept in {place}" if place else ""
        tail += "" if self.wishes.dry_run or self.wrong else "; verified"
        return f"{head}{self.source.identity} -> {self.target.identity}: {', '.join(words)}{tail}"

    def _copy(self, chunk: Sequence[str], ours: Mapping[str, Entry]) -> None:
        wanted = dict(self.source.read(chunk))
        for path in chunk:
            if path not in wanted:
                self.troubles.append(f"{path}: cannot be read in the source")
        data = {path: blob.data for path, blob in wanted.items() if blob}
        todo, asked = [*data], [path for path in data if path in ours]
        for attempt in range(_ATTEMPTS):
            present = dict(self.target.read(asked))
            unread = [path for path in asked if path not in present]
            self.troubles += [f"{path}: cannot be read in the target" for path in unread]
            changes = [
                change
                for path in todo
                if path not in unread and (change := self._change(path, data, present.get(path)))
            ]
            todo = asked = self._commit(changes, last=attempt == _ATTEMPTS - 1)
            if not todo:
                return

    def _change(self, path: str, data: Mapping[str, bytes], present: Blob | None) -> Change | None:
        """What makes the target hold the document; None: nothing is to be done."""
        now = present.data if present else None
        action = decide(path, data[path], now, self.wishes, exact=self._exact)
        if action in (Action.SAME, Action.KEEP):
            if action is Action.KEEP:
                self.troubles.append(f"{path}: differs, and stays as it is (--no-overwrite)")
            self.counts[action] += path not in self._written
            return None
        if self.wishes.dry_run:
            print(f"{'put    ' if action is Action.PUT else 'replace'} {path}")
            self.counts[action] += 1
            return None
        if present is not None:
            self.keep(path, present.data)
        return Put(path, data[path], present.entry.revision if present else None)

    def _commit(self, changes: Sequence[Change], *, last: bool) -> list[str]:
        """Commit each change alone; returns the paths to compare anew.

        Raises Unavailable, with the `last` attempt only.
        """
        again: list[str] = []
        if not changes:
            return again
        outcomes = self.target.commit([[change] for change in changes], _TIMEOUT)
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, Conflict | Unavailable) and not last:
                again.append(change.path)
                if isinstance(change, Put) and isinstance(outcome, Unavailable):
                    # If it was applied, the next look finds it the same.
                    self._note(change)
                continue
            if isinstance(outcome, Unavailable):
                raise outcome
            if isinstance(outcome, StoreError):
                self._forget(change)
                self.troubles.append(f"{change.path}: {outcome.cause}")
            else:
                self._note(change)
        return again

    def _note(self, change: Change) -> None:
        """Count a change that is, or may be, done; once."""
        if isinstance(change, Delete):
            self.deleted += 1
        elif change.path not in self._written:
            self.counts[Action.REPLACE if change.expect else Action.PUT] += 1
            self._written[change.path] = digest_of(change.data)

    def _forget(self, change: Change) -> None:
        if isinstance(change, Put) and self._written.pop(change.path, b""):
            self.counts[Action.REPLACE if change.expect else Action.PUT] -= 1

    def _remove(self, extra: Sequence[str]) -> None:
        """Delete what the target alone has, if that is wanted, and keep a copy of each."""
        if not self.wishes.delete:
            self.extra = len(extra)
            return
        for start in range(0, len(extra), _CHUNK):
            chunk = extra[start : start + _CHUNK]
            # Left out of the listing is not absent: only what is surely gone is deleted.
            gone = [path for path, blob in self.source.read(chunk) if blob is None]
            self.extra += len(chunk) - len(gone)
            found = {path: blob for path, blob in self.target.read(gone) if blob}
            if self.wishes.dry_run:
                print("".join(f"delete  {path}\n" for path in found), end="")
                self.deleted += len(found)
                continue
            for path, blob in found.items():
                self.keep(path, blob.data)
            deletes = [Delete(path, blob.entry.revision) for path, blob in found.items()]
            self._commit(deletes, last=True)

    def _verify(self) -> None:
        """Read back everything that was written, and compare it by its digest."""
        for chunk in chunks(dict.fromkeys(self._written)):
            found = dict(self.target.read(chunk))
            for path in chunk:
                blob = found.get(path)
                data = blob.data if blob else b""
                if digest_of(data) == self._written[path]:
                    continue
                if not self._exact and self._same_as_source(path, data):
                    continue
                self.wrong += 1
                self.troubles.append(f"{path}: reads back as something else: run the copy again")

    def _same_as_source(self, path: str, data: bytes) -> bool:
        return any(
            blob and same_value(path, blob.data, data) for _, blob in self.source.read([path])
        )

    @property
    def _exact(self) -> bool:
        """Whether the target keeps bytes, or, as PostgreSQL without its side table, values."""
        told = self.target.traits() if isinstance(self.target, Described) else {}
        return told.get("bytes") != "canonical"


def chunks(listed: Mapping[str, Entry | None]) -> Iterator[list[str]]:
    """The paths in order, in parts that memory bears."""
    part: list[str] = []
    size = 0
    for path in sorted(listed):
        entry = listed[path]
        size += entry.size if entry else 0
        part.append(path)
        if len(part) == _CHUNK or size > _CHUNK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part

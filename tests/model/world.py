"""What the model's machines live in: a trio loop between the steps, a backend that remembers who
changed what, and the reference: a dictionary of everything that was ever done to each document.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from storefs.backends.contract import Put, Watcher
from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from trio.testing import MockClock

    from storefs.backends.contract import Backend, Batch, Blob, Entry, Outcome

T = TypeVar("T")

REMOTE = "remote"


class Loop:
    """A trio loop in a thread of its own; it goes on between the calls."""

    nursery: trio.Nursery
    _token: trio.lowlevel.TrioToken

    def __init__(self, clock: MockClock) -> None:
        started = threading.Event()
        self._thread = threading.Thread(
            target=trio.run, args=(self._main, started), kwargs={"clock": clock}, name="model"
        )
        self._thread.start()
        started.wait()

    async def _main(self, started: threading.Event) -> None:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            self._token = trio.lowlevel.current_trio_token()
            started.set()
            await trio.sleep_forever()

    def call(self, step: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run one step to its end."""
        return trio.from_thread.run(step, *args, trio_token=self._token)

    def now(self, step: Callable[..., T], *args: Any) -> T:
        """Run one step that awaits nothing."""
        return trio.from_thread.run_sync(step, *args, trio_token=self._token)

    def close(self) -> None:
        """Cancel what is still under way."""
        self.now(self.nursery.cancel_scope.cancel)
        self._thread.join()


@dataclass
class Reference:
    """Each document's versions in the backend, and what the programs of each machine did."""

    history: dict[str, list[tuple[str, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Path -> (who, the bytes or None for a delete), oldest first."""
    written: Counter[tuple[str, str, bytes]] = field(default_factory=Counter)
    """(machine, path, bytes): how often a program made the document read so."""
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(machine, path): how often a program unlinked it or renamed it away."""
    doubts: Counter[str] = field(default_factory=Counter)
    """Machine: commits of which it may never have heard whether they were applied. Of such a one
    it cannot tell "never applied" from "applied, and undone by somebody else"."""

    def was_current(self, path: str, data: bytes) -> bool:
        """Whether the backend ever held these bytes."""
        return any(version == data for _, version in self.history[path])

    def known(self, machine: str, path: str, data: bytes) -> bool:
        """Whether a read on `machine` may show these bytes."""
        return self.was_current(path, data) or self.written[machine, path, data] > 0

    def check(self) -> None:
        """No document was sent that no program wrote, none more often than it was written, and
        nothing was deleted that nobody deleted."""
        for path, versions in self.history.items():
            own = [version for version in versions if version[0] != REMOTE]
            for (who, data), times in Counter(own).items():
                doubts = self.doubts[who]
                if data is None:
                    assert times <= self.removed[who, path] + doubts, f"{who} deleted {path}"
                else:
                    asked = self.written[who, path, data] + doubts
                    assert times <= asked, f"{who} sent {path} {data!r} {times} times, not {asked}"


class Recorded:
    """One machine's session of a store; what is applied goes into the reference."""

    def __init__(self, who: str, inner: Backend, reference: Reference) -> None:
        self.who, self.inner, self.reference = who, inner, reference
        self.identity, self.concurrency = inner.identity, inner.concurrency
        self.delay_next = threading.Event()
        """The next answer to `read` or `snapshot` is on its way until `deliver` is set."""
        self.on_its_way = threading.Event()
        self.deliver = threading.Event()

    def _delay(self) -> None:
        if self.delay_next.is_set():
            self.delay_next.clear()
            deliver = self.deliver
            self.on_its_way.set()
            deliver.wait()

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        listing = self.inner.snapshot()
        self._delay()
        return listing

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        answers = list(self.inner.read(paths))
        self._delay()
        return iter(answers)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit."""
        outcomes = []
        for batch in batches:
            before = {path for path, blob in self.inner.read([c.path for c in batch]) if blob}
            [outcome] = self.inner.commit([batch], timeout)
            outcomes.append(outcome)
            if isinstance(outcome, StoreError):
                continue
            for change in batch:
                if isinstance(change, Put):
                    self.reference.history[change.path].append((self.who, change.data))
                elif change.path in before:
                    self.reference.history[change.path].append((self.who, None))
        return outcomes

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait."""
        assert isinstance(self.inner, Watcher)
        return self.inner.wait(timeout)

    def close(self) -> None:
        """See Backend.close."""
        self.inner.close()

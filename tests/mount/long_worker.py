"""One program of the long run: mixed work in one directory, so many steps each time it is told.

`python long_worker.py TOP STORE TAG SEED`: TOP is the `auths/` of a mount, STORE that of the store
behind it; with TOP equal to STORE the work is what may happen in the store itself. Each line of
stdin is a number of steps, answered by a JSON count of what was done and which errnos were met.
What is not expected ends it with an error. Standard library only.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = 16
"""Documents that all programs fight over."""

DIRECTORIES = 3
"""Of each program. An empty one stays in the store and on the other machines for ever."""

_EXPECTED = {
    "ENOENT",  # somebody else was faster
    "EEXIST",
    "EINVAL",  # a rename of what somebody is just writing
    "ESTALE",  # the document changed elsewhere
    "EBUSY",
    "EIO",  # waited too long behind the others
}


@contextmanager
def _refused(code: int) -> Iterator[None]:
    """What is done inside must fail with this errno."""
    try:
        yield
    except OSError as error:
        assert error.errno == code, error  # noqa: PT017 - not run by pytest
    else:
        raise AssertionError(f"accepted, not {errno.errorcode[code]}")


@contextmanager
def _opened(name: str, flags: int) -> Iterator[int]:
    """A descriptor that is closed at all events, and tells what the close said."""
    fd = os.open(name, flags, 0o600)
    try:
        yield fd
    except BaseException:
        with suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


class Work:
    """What both kinds of program have: names, and bytes that nobody else writes."""

    def __init__(self, top: str, store: str, tag: str, seed: int) -> None:
        self.top, self.store, self.tag = top, store, tag
        self.chance = random.Random(seed)
        self.serial = 0
        self.steps: list[Callable[[], None]] = []

    def step(self) -> str:
        """One of the steps, at random; returns its name."""
        (step := self.chance.choice(self.steps))()
        return step.__name__

    def shared(self) -> str:
        """The name of a document that other programs change as well."""
        return f"{self.top}/mix{self.chance.randrange(NAMES)}.json"

    def own(self, suffix: str) -> str:
        """A name that this program alone uses."""
        return f"{self.top}/{self.tag}{suffix}"

    def document(self) -> bytes:
        """A valid document, another one each time."""
        self.serial += 1
        filler = "x" * self.chance.choice([0, 10, 2000, 9000])
        return json.dumps({"by": self.tag, "serial": self.serial, "filler": filler}).encode()

    def put(self, name: str, data: bytes | None = None) -> None:
        """open, one write, close."""
        with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            os.write(fd, self.document() if data is None else data)

    def replace(self) -> None:
        """A temporary file and a rename, as `sed -i` and `jq > tmp && mv` do."""
        self.put(self.own(".tmp"))
        os.rename(self.own(".tmp"), self.shared())

    def unlink(self) -> None:
        os.unlink(self.shared())

    def write(self) -> None:
        self.put(self.shared())

    def nest(self) -> None:
        """Files under names that never were and never come back, in a directory that goes too."""
        self.serial += 1
        directory = self.own(f"-{self.serial % DIRECTORIES}")
        os.mkdir(directory)
        try:
            self.put(f"{directory}/nested-{self.serial}.json")
            self.put(f"{directory}/local-{self.serial}.txt")
        finally:
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")
            os.rmdir(directory)


class Program(Work):
    """Works in a mount, as editors, tools and the proxy do."""

    def __init__(self, top: str, store: str, tag: str, seed: int) -> None:
        super().__init__(top, store, tag, seed)
        self.steps = [
            *[self.write, self.replace, self.look] * 3, self.unlink, self.move, self.nest,
            self.edit_like_vim, self.move_away, self.refuse_content, self.lose_to_the_store,
            self.log, self.lock, self.map_local, self.map_document, self.truncate,
            self.unlink_open, self.duplicate, self.rewrite_config, self.ask, self.refuse_calls,
        ]  # fmt: skip

    def move(self) -> None:
        os.rename(self.shared(), self.shared())

    def edit_like_vim(self) -> None:
        """Swap file, backup by rename, new file, fsync, no backup left."""
        name, backup = self.shared(), self.own(".json~")
        with _opened(self.own(".swp"), os.O_RDWR | os.O_CREAT) as swap:
            os.write(swap, bytes(8192))
            os.rename(name, backup)
            try:
                with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
                    os.write(fd, self.document())
                    os.fsync(fd)
            finally:
                os.unlink(backup)
                os.unlink(self.own(".swp"))

    def move_away(self) -> None:
        """Leaves by a rename, and does not return."""
        os.rename(self.shared(), self.own(".bak"))
        os.unlink(self.own(".bak"))

    def refuse_content(self) -> None:
        """Cut JSON: EINVAL at close and fsync; then valid content, or the end of it."""
        name = self.own("-broken.json")
        with _refused(errno.EINVAL):
            self.put(name, self.document()[:-5])
        with open(name, "rb") as file:
            file.read()
        if self.chance.random() < 0.5:
            self.put(name)
        os.unlink(name)

    def lose_to_the_store(self) -> None:
        """A conflict each time: the store's version changes while this program writes."""
        name, path = self.own("-contested.json"), f"{self.store}/{self.tag}-contested.json"
        with suppress(OSError):  # of the last time: it may still be on its way here
            self.put(name)
        with _refused(errno.ESTALE), _opened(name, os.O_WRONLY) as fd:
            temporary = f"{self.store}/.{self.tag}-contested.tmp"
            with open(temporary, "wb") as file:
                file.write(self.document())
            os.rename(temporary, path)
            data = self.document()
            os.ftruncate(fd, len(data))
            os.pwrite(fd, data, 0)

    def log(self) -> None:
        """Append, and rotate now and then."""
        name = self.own(".log")
        with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
            os.write(fd, b"a line\n" * self.chance.randint(1, 200))
        if os.path.getsize(name) > 20_000:
            os.rename(name, f"{name}.1")

    def lock(self) -> None:
        with _opened(self.own(".lock"), os.O_WRONLY | os.O_CREAT | os.O_EXCL):
            os.unlink(self.own(".lock"))

    def map_local(self) -> None:
        with _opened(self.own(".bin"), os.O_RDWR | os.O_CREAT) as fd:
            os.ftruncate(fd, self.chance.randint(1, 300_000))
            with mmap.mmap(fd, 0) as mapping:
                mapping[-1:] = b"x"
                mapping.flush()

    def map_document(self) -> None:
        name = self.own("-mapped.json")
        self.put(name, self.document() + b" ")
        with _opened(name, os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapping:
            mapping[-1:] = b"\n"

    def truncate(self) -> None:
        """Without a handle, to nothing: scratch, until the next one writes."""
        name = self.own("-cut.json")
        self.put(name)
        os.truncate(name, 0)
        if self.chance.random() < 0.5:
            os.unlink(name)

    def unlink_open(self) -> None:
        """Renamed and removed while it is open: it can be read to the end."""
        name = self.shared()
        with _opened(name, os.O_RDWR) as fd:
            os.rename(name, self.own("-open.json"))
            os.unlink(self.own("-open.json"))
            os.read(fd, 100)

    def duplicate(self) -> None:
        with _opened(self.own("-twice.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            os.write(fd, self.document())
            os.close(os.dup(fd))
            os.write(fd, b"\n")

    def rewrite_config(self) -> None:
        """Read, one line changed, written in place."""
        name = f"{os.path.dirname(self.top)}/config/config.yaml"
        with open(name, "rb") as file:
            lines = file.readlines()
        self.serial += 1
        mine = f"# {self.tag} ".encode()
        others = b"".join(line for line in lines if not line.startswith(mine))
        self.put(name, mine + b"%d\n" % self.serial + others)

    def look(self) -> None:
        """List, stat and read, with the extended attributes of some."""
        for name in os.listdir(self.top):
            with suppress(FileNotFoundError):
                os.lstat(f"{self.top}/{name}")
        with open(self.shared(), "rb") as file:
            file.read()
        for attribute in os.listxattr(self.shared()):
            os.getxattr(self.shared(), attribute)

    def ask(self) -> None:
        """What `.storefs` says, and now and then a reconcile."""
        place = f"{os.path.dirname(self.top)}/.storefs"
        for name in ("status", "metrics"):
            with open(f"{place}/{name}", "rb") as file:
                file.read()
        if self.chance.random() < 0.1:
            with _opened(f"{place}/sync", os.O_WRONLY | os.O_TRUNC) as fd:
                os.write(fd, b"1")

    def refuse_calls(self) -> None:
        with _refused(errno.EPERM):
            os.symlink("nowhere", self.own("-link.json"))
        with _refused(errno.EPERM):
            os.mkdir(f"{os.path.dirname(self.top)}/{self.tag}")
        with _refused(errno.ENAMETOOLONG):
            os.mkdir(self.own("-" + "n" * 255))
        with _refused(errno.EINVAL):
            os.mkdir(self.own("-new\nline"))
        with _refused(errno.EOPNOTSUPP):
            os.setxattr(self.top, "user.mine", b"1")


class Other(Work):
    """Changes the store directory, as any program of another machine might."""

    def __init__(self, top: str, store: str, tag: str, seed: int) -> None:
        super().__init__(top, store, tag, seed)
        self.steps = [self.write, *[self.replace] * 2, self.unlink, self.nest]

    def own(self, suffix: str) -> str:
        """A temporary file has a name that no document has."""
        return super().own(suffix) if suffix != ".tmp" else f"{self.top}/.{self.tag}.tmp"


def main() -> None:
    top, store, tag, seed = sys.argv[1:]
    worker = (Other if top == store else Program)(top, store, tag, int(seed))
    for line in sys.stdin:
        done: Counter[str] = Counter()
        for _ in range(int(line)):
            try:
                done[worker.step()] += 1
            except OSError as error:
                name = errno.errorcode[error.errno or 0]
                if name not in _EXPECTED:
                    raise
                done[name] += 1
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()

"""Changes that wait on this machine's disk for a backend that is away. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Exit
from tests.mount.calls import attribute, refused, shows, write
from tests.mount.harness import Watch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

ONE, TWO, THREE = (b'{"n": %d}' % number for number in (1, 2, 3))
CALLS = ("commit", "read", "snapshot")


def cut(mount: Mount) -> None:
    """Nobody answers this machine any more, and it knows."""
    for call in CALLS:
        mount.fault(f"{call}.fail-before")
    with refused(errno.EIO):
        mount.sync()
    until(lambda: not mount.status()["online"], "the outage is noticed")


def heal(mount: Mount) -> None:
    """The backend answers again, and everything pending is sent."""
    for call in CALLS:
        (mount.control / f"{call}.fail-before").unlink()
    until(lambda: mount.status()["online"], "the backend answers again")
    until(lambda: not mount.status()["pending"], "everything is sent")


@pytest.fixture
def cut_off(mounts: Mounts) -> Iterator[Mount]:
    """A machine with three documents, whose backend is away."""
    one = mounts("one", "--snapshot-interval", "3600")
    for name in ("a", "b", "c"):
        write(one.auths / f"{name}.json", ONE)
    cut(one)
    yield one
    for call in CALLS:
        (one.control / f"{call}.fail-before").unlink(missing_ok=True)


def stored(mount: Mount) -> dict[str, bytes]:
    files = (mount.store / "auths").glob("*.json")
    return {path.name: path.read_bytes() for path in files}


def test_changes_wait(cut_off: Mount) -> None:
    """`close`, `rename` and `unlink` succeed when this machine's disk has the change, which is then
    pending, and is sent when the backend answers again.
    """
    write(cut_off.auths / "a.json", TWO)
    write(cut_off.auths / "new.json", TWO)
    (cut_off.auths / "b.json").unlink()
    os.rename(cut_off.auths / "c.json", cut_off.auths / "d.json")
    assert sorted(os.listdir(cut_off.auths)) == ["a.json", "d.json", "new.json"]
    assert (cut_off.auths / "a.json").read_bytes() == TWO
    assert attribute(cut_off.auths / "a.json", "state") == "pending"
    assert cut_off.status()["pending"] == 5
    assert stored(cut_off) == {"a.json": ONE, "b.json": ONE, "c.json": ONE}
    heal(cut_off)
    assert stored(cut_off) == {"a.json": TWO, "d.json": ONE, "new.json": TWO}
    assert attribute(cut_off.auths / "a.json", "state") == "synced"
    assert cut_off.kept("conflicts") == {}


def test_only_the_last_bytes_are_sent(cut_off: Mount) -> None:
    """What waits for one path is sent as one change: its last bytes, or nothing where a document
    was made and removed meanwhile.
    """
    for number in range(5):
        write(cut_off.auths / "a.json", b'{"n": %d}' % (10 + number))
        write(cut_off.auths / "gone.json", TWO)
    (cut_off.auths / "gone.json").unlink()
    before = len(cut_off.commits())
    heal(cut_off)
    assert cut_off.commits()[before:] == [[["put", "auths/a.json"]]]
    assert stored(cut_off)["a.json"] == b'{"n": 14}'


def test_the_first_waits(mounts: Mounts) -> None:
    """The first change waits until its deadline (`unlink` and `rename` at most `--dir-wait`,
    2 seconds), the later ones do not wait.
    """
    one = mounts("one", "--deadline", "1", "--snapshot-interval", "3600")
    write(one.auths / "a.json", ONE)
    write(one.auths / "b.json", ONE)
    faults = [one.fault(f"{call}.hang") for call in CALLS]
    write(one.auths / "a.json", TWO)
    assert not one.status()["online"]
    begun = len(one.commits())
    (one.auths / "b.json").unlink()
    write(one.auths / "c.json", TWO)
    assert len(one.commits()) == begun  # nobody was asked
    for fault in faults:
        fault.unlink()
    until(lambda: stored(one) == {"a.json": TWO, "c.json": TWO}, "all of it is sent, once")


def test_fsync_tells_the_truth(cut_off: Mount) -> None:
    """`fsync` of a document that is pending fails with EIO, and the bytes stay pending."""
    fd = os.open(cut_off.auths / "a.json", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, TWO)
    with refused(errno.EIO):
        os.fsync(fd)
    os.close(fd)
    assert attribute(cut_off.auths / "a.json", "state") == "pending"
    heal(cut_off)
    assert stored(cut_off)["a.json"] == TWO


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_end_loses_nothing(cut_off: Mount, end: str) -> None:
    """What is pending survives the end of the mount, a crash included, and the next start sends
    it.
    """
    write(cut_off.auths / "a.json", TWO)
    write(cut_off.auths / "new.json", TWO)
    (cut_off.auths / "b.json").unlink()
    if end == "stop":
        assert cut_off.stop() == 0
    else:
        cut_off.kill()
        cut_off.clear()
    cut_off.start()  # it starts from its mirror
    assert not cut_off.status()["online"]
    assert sorted(os.listdir(cut_off.auths)) == ["a.json", "c.json", "new.json"]
    assert (cut_off.auths / "a.json").read_bytes() == TWO
    heal(cut_off)
    assert stored(cut_off) == {"a.json": TWO, "c.json": ONE, "new.json": TWO}


def test_a_lost_index_loses_nothing(cut_off: Mount) -> None:
    """A lost index loses nothing that is pending."""
    write(cut_off.auths / "a.json", TWO)
    write(cut_off.auths / "new.json", TWO)
    assert cut_off.stop() == 0
    for file in (cut_off.root / ".storefs").glob("index.sqlite*"):
        file.unlink()
    for call in CALLS:
        (cut_off.control / f"{call}.fail-before").unlink()
    cut_off.start()
    until(lambda: not cut_off.status()["pending"], "everything is sent")
    assert stored(cut_off) == {"a.json": TWO, "b.json": ONE, "c.json": ONE, "new.json": TWO}
    assert (cut_off.auths / "a.json").read_bytes() == TWO


def test_what_changed_meanwhile(cut_off: Mount) -> None:
    """What changed elsewhere meanwhile is met by the rules for conflicts; nobody waits then, so the
    log tells.
    """
    write(cut_off.auths / "a.json", TWO)
    write(cut_off.auths / "b.json", b'{"n": 1, "mine": 1}')
    (cut_off.auths / "c.json").unlink()
    (cut_off.store / "auths/a.json").write_bytes(THREE)
    (cut_off.store / "auths/b.json").write_bytes(b'{"n": 1, "theirs": 1}')
    (cut_off.store / "auths/c.json").write_bytes(THREE)
    with Watch(cut_off.auths) as watch:
        heal(cut_off)
        shows(cut_off.auths / "a.json", THREE)
        watch.expect("MODIFY", "a.json")
    assert list(cut_off.kept("conflicts").values()) == [TWO]
    until(lambda: (cut_off.auths / "c.json").exists(), "the document that changed stays")
    assert stored(cut_off) == {
        "a.json": THREE,
        "b.json": b'{"n": 1, "theirs": 1, "mine": 1}',
        "c.json": THREE,
    }
    shows(cut_off.auths / "b.json", stored(cut_off)["b.json"])
    assert "a.json: changed elsewhere while it was pending" in cut_off.log()


def test_start_without_a_mirror(mounts: Mounts) -> None:
    """A mount starts without its backend if this machine has a mirror, and fails otherwise; `--wait
    SECONDS` waits first.
    """
    one = mounts("one", "--wait", "60", start=False)
    fault = one.fault("snapshot.fail-before")
    daemon = one.launch()
    until(lambda: "waiting for it" in one.log(), "it waits")
    fault.unlink()
    until(lambda: one.path.is_mount(), "it goes on")
    one.stop()
    assert daemon.poll() is not None
    other = mounts("other", start=False)
    other.fault("snapshot.fail-before")
    assert other.launch().wait(60) == Exit.UNREACHABLE


def test_behind(mounts: Mounts) -> None:
    """With `--commit behind` every call returns when this machine's disk has the change, which is
    sent at once.
    """
    one = mounts("one", "--commit", "behind", "--snapshot-interval", "3600")
    fault = one.fault("commit.hang")
    write(one.auths / "a.json", ONE)
    assert attribute(one.auths / "a.json", "state") == "pending"
    until(one.commits, "it is on its way")
    fault.unlink()
    until(lambda: stored(one) == {"a.json": ONE}, "it is sent")
    until(lambda: attribute(one.auths / "a.json", "state") == "synced", "it is told")


def test_a_commit_that_found_the_outage_is_enough(mounts: Mounts) -> None:
    """While the backend is away it is asked about every second, whatever found that out."""
    one = mounts("one", "--deadline", "1", "--snapshot-interval", "3600")
    write(one.auths / "a.json", ONE)
    fault = one.fault("commit.fail-before")
    write(one.auths / "a.json", TWO)
    fault.unlink()
    until(lambda: stored(one) == {"a.json": TWO}, "it is sent")
    assert one.status()["online"]

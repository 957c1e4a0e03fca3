"""The table of open files: who writes, who may be about to, and what a commit settles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.errors import BadHandle
from storefs.handles import READY_TO_WRITE, Handle, Handles, Listing
from storefs.inodes import Inodes, Kind
from tests.machines import follow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from storefs.inodes import Inode


@pytest.fixture
def inode() -> Inode:
    return Inodes().add_path("auths/a.json", Kind.DOCUMENT)


def test_numbers_are_known_from_open_to_close(inode: Inode) -> None:
    handles = Handles()
    handle = Handle(inode, writable=False, seen=0)
    fh = handles.open(handle)
    assert handles.get(fh) is handle
    assert (len(handles), inode.opens) == (1, 1)
    assert handles.close(fh) is handle
    assert (len(handles), inode.opens) == (0, 0)
    with pytest.raises(BadHandle):
        handles.get(fh)


def test_a_writer_that_has_not_written_counts_for_ten_seconds(
    inode: Inode, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(mock_clock, monkeypatch)
    handles = Handles()
    handles.open(Handle(inode, writable=False, seen=0))
    assert not handles.about_to_write(inode)
    fh = handles.open(Handle(inode, writable=True, seen=0))
    mock_clock.jump(READY_TO_WRITE - 0.1)
    assert handles.about_to_write(inode)
    mock_clock.jump(0.2)
    assert not handles.about_to_write(inode)
    assert not handles.wrote(inode)
    handles.get(fh).wrote = True
    assert handles.wrote(inode)


def test_a_commit_settles_what_every_handle_wrote(
    inode: Inode, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(mock_clock, monkeypatch)
    mock_clock.jump(1000)
    handles = Handles()
    numbers = [handles.open(Handle(inode, writable=True, seen=0)) for _ in range(3)]
    for fh in numbers[:2]:
        handles.get(fh).wrote = True
    handles.committed(inode, 7)
    assert not handles.wrote(inode)
    assert [handles.get(fh).seen for fh in numbers] == [7, 7, 0]
    assert handles.about_to_write(inode)  # the third may have read and not written yet
    handles.close(numbers[2])
    assert not handles.about_to_write(inode)


def test_a_listing_is_what_it_was_at_opendir(inode: Inode) -> None:
    handles, directory = Handles(), Inodes().root
    fh = handles.open_listing(Listing(directory, ["a.json"], [inode]))
    assert handles.listing(fh) == (directory, ["a.json"], [inode])
    handles.close_listing(fh)
    with pytest.raises(KeyError):
        handles.listing(fh)

"""What `storefs log` prints of names that others chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs import history
from storefs.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.user


def test_an_author_drives_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = b'{"time": 0, "author": "A\\u001b[2J\\u202ePerson", "machine": "", "revision": null}\n'
    monkeypatch.setattr(history, "asked", lambda *words, patience: line)
    assert history.show(tmp_path, "auths/a.json", as_json=False) is Exit.DONE
    assert capsys.readouterr().out.endswith("  A?[2J?Person\n")

"""The thinnest thing that works: one document, one event, each way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mount.harness import Mount, Watch, until

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts


def test_a_written_document_is_in_the_store(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(b'{"type": "claude"}')
    assert (mount.store / "auths/a.json").read_bytes() == b'{"type": "claude"}'


def test_a_change_of_another_machine_arrives_as_an_event(mounts: Mounts) -> None:
    here, there = mounts("here"), mounts("there")
    with Watch(here.auths) as watch:
        (there.auths / "a.json").write_bytes(b'{"type": "claude"}')
        watch.expect("CREATE", "a.json")
        assert (here.auths / "a.json").read_bytes() == b'{"type": "claude"}'
        (there.auths / "a.json").write_bytes(b'{"type": "codex"}')
        watch.expect("MODIFY", "a.json")
        assert (here.auths / "a.json").read_bytes() == b'{"type": "codex"}'
        (there.auths / "a.json").unlink()
        watch.expect("DELETE", "a.json")
        until(lambda: here.status()["documents"] == 1, "the config alone is left")

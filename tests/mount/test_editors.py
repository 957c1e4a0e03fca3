"""Editors, as people use them on documents, the config and local files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, shows, write
from tests.mount.harness import Mount, Watch, until
from tests.mount.standin_client import StandIn
from tests.mount.terminal import Terminal
from tests.mount.tools import call, need, stored

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user


VIM = ["vim", "-u", "NONE", "-N", "-i", "NONE", "-n"]
VIM_STYLES = {
    "as it comes": [],
    "backup": ["--cmd", "set backup writebackup backupcopy=auto"],
    "backup by rename": ["--cmd", "set backup backupcopy=no"],
    "backup by copy": ["--cmd", "set backup backupcopy=yes"],
    "no backup": ["--cmd", "set nobackup nowritebackup"],
    "fsync": ["--cmd", "set fsync"],
}


@pytest.mark.parametrize("style", VIM_STYLES)
def test_vim_on_a_document(mounts: Mounts, style: str) -> None:
    """Each save arrives in the store, whole, and on the other machine as a modification."""
    need("vim")
    here, there = mounts("here"), mounts("there")
    path = here.auths / "a.json"
    write(path, b'{"a": "one"}\n')
    shows(there.auths / "a.json", b'{"a": "one"}\n')
    words = [*VIM, *VIM_STYLES[style], "-es", "-c", "%s/one/two/", "-c", "wq", str(path)]
    with Watch(there.auths) as watch:
        call(here, *words)
        assert path.read_bytes() == b'{"a": "two"}\n'
        until(lambda: stored(here, path) == b'{"a": "two"}\n', "the store has it")
        watch.expect("MODIFY", "a.json")
        events = watch.drain()
    assert ("DELETE", "a.json") not in events
    assert (there.auths / "a.json").read_bytes() == b'{"a": "two"}\n'
    assert here.status()["conflicts"] == there.status()["conflicts"] == 0


def test_vim_with_its_swap_file(mount: Mount) -> None:
    """As a person uses it: swap file beside the document, two saves, quit."""
    need("vim")
    path = mount.auths / "a.json"
    write(path, b'{"a": 1}\n')
    with Terminal(["vim", "-u", "NONE", "-N", str(path)], mount.auths, mount.home) as vim:
        vim.expect(b'{"a": 1}')
        until(lambda: (mount.auths / ".a.json.swp").exists(), "the swap file is there")
        vim.send(b":%s/1/22/\r:w\r")
        until(lambda: stored(mount, path) == b'{"a": 22}\n', "the first save is in the store")
        vim.send(b":%s/22/333/\r:wq\r")
        assert vim.end() == 0
    assert stored(mount, path) == path.read_bytes() == b'{"a": 333}\n'
    assert [entry.name for entry in mount.auths.iterdir()] == ["a.json"]
    assert not [entry for entry in mount.store.rglob("*") if "swp" in entry.name]


def test_vim_says_so_when_the_content_is_invalid(mount: Mount) -> None:
    need("vim")
    path = mount.auths / "a.json"
    write(path, b'{"a": 1}\n')
    words = ["vim", "-u", "NONE", "-N", "-n", str(path)]
    with Terminal(words, mount.auths, mount.home) as vim:
        vim.expect(b'{"a": 1}')
        vim.send(b":%s/}//\r:w\r")
        vim.expect(b"E667", b"E512")  # fsync or close failed
        until(lambda: "auths/a.json: not sent: is not JSON" in mount.log(), "the log says why")
        assert stored(mount, path) == b'{"a": 1}\n'
        vim.send(b"\r:%s/1/2}/\r:w!\r")
        until(lambda: stored(mount, path) == b'{"a": 2}\n', "what is valid again is sent")
        vim.send(b":q!\r")
        vim.end()


def test_vim_on_the_config(mount: Mount) -> None:
    """Saved in place: the inode stays, nobody goes deaf."""
    need("vim")
    ino, before = mount.config.stat().st_ino, mount.config.read_text()
    words = ["--cmd", "set backupcopy=yes", "-es", "-c", "0put ='# mine'", "-c", "wq"]
    with Watch(mount.config) as watch:
        call(mount, *VIM, *words, mount.config)
        watch.expect("MODIFY")
    assert mount.config.stat().st_ino == ino
    assert mount.config.read_text() == f"# mine\n{before}"
    assert mount.status()["warnings"] == []


@pytest.mark.parametrize("options", [[], ["-B"], ["-G"]], ids=["plain", "backup", "locking"])
def test_nano(mount: Mount, options: list[str]) -> None:
    need("nano")
    path = mount.auths / "a.json"
    write(path, b'{"a": 1}\n')
    words = ["nano", "-I", *options, str(path)]
    with Terminal(words, mount.auths, mount.home) as nano:
        nano.expect(b'{"a": 1}')
        nano.send(b" ")
        nano.expect(b" ")
        nano.send(b"\x0f")  # ^O
        nano.expect(b"File Name to Write")
        nano.send(b"\r")
        nano.expect(b"Wrote 1 line")
        nano.send(b"\x18")  # ^X
        assert nano.end() == 0
    assert stored(mount, path) == path.read_bytes() == b' {"a": 1}\n'
    left = {entry.name for entry in mount.auths.iterdir()}
    assert left == ({"a.json", "a.json~"} if "-B" in options else {"a.json"})


def test_sed_on_a_document(mounts: Mounts) -> None:
    """One commit, one modification elsewhere, and the temporary file never leaves."""
    here, there = mounts("here"), mounts("there")
    path = here.auths / "a.json"
    write(path, b'{"a": 1}\n')
    shows(there.auths / "a.json", b'{"a": 1}\n')
    batches = Batches(here)
    with Watch(there.auths) as watch:
        call(here, "sed", "-i", "s/1/2/", path)
        watch.expect("MODIFY", "a.json")
    assert batches.sent() == [[["put", "auths/a.json"]]]
    assert (there.auths / "a.json").read_bytes() == b'{"a": 2}\n'
    assert [entry.name for entry in here.auths.iterdir()] == ["a.json"]


def test_sed_keeping_a_backup(mount: Mount) -> None:
    """sed renames the document to the backup, then its file onto the name: one put."""
    path = mount.auths / "a.json"
    write(path, b'{"a": 1}\n')
    batches = Batches(mount)
    call(mount, "sed", "-i.bak", "s/1/2/", path)
    assert (mount.auths / "a.json.bak").read_bytes() == b'{"a": 1}\n'
    assert stored(mount, path) == path.read_bytes() == b'{"a": 2}\n'
    assert batches.sent() == [[["put", "auths/a.json"]]]


def test_sed_on_the_config(mount: Mount) -> None:
    """It replaces the file: the warning names the remedy, and status says so until a restart."""
    before = mount.config.read_text()
    assert mount.status()["warnings"] == []
    with Watch(mount.config) as watch:
        call(mount, "sed", "-i", "1i # by sed", mount.config)
        watch.expect("DELETE_SELF")  # deaf from here on
    assert mount.config.read_text() == f"# by sed\n{before}"
    assert stored(mount, mount.config).startswith(b"# by sed\n")
    warned = "config/config.yaml was replaced by a rename: programs that watch the old file"
    until(lambda: mount.log().count(warned) == 1, "the warning")
    assert "restart them, and edit in place" in mount.log()
    assert any(text.startswith("config replaced") for text in mount.status()["warnings"])
    call(mount, "sed", "-i", "1d", mount.config)
    assert mount.config.read_text() == before
    assert mount.log().count(warned) == 1
    mount.stop()
    mount.start()
    assert mount.status()["warnings"] == []


def test_a_stale_save_after_sed_on_the_config(mount: Mount) -> None:
    """A proxy that is deaf writes its old config back: what sed wrote is in the conflicts."""
    write(mount.config, b"port: 8317\nrequest-retry: 3\n")
    with StandIn(mount.config, mount.auths) as proxy:
        call(mount, "sed", "-i", "s/retry: 3/retry: 30/", mount.config)
        belief = proxy.wait_until(lambda belief: not belief.config_watch_alive)
        assert "request-retry: 3\n" in belief.config_text
        by_sed = stored(mount, mount.config)
        assert by_sed == b"port: 8317\nrequest-retry: 30\n"
        assert mount.kept("conflicts") == {}
        proxy.save_config_from_memory("port", "1")
    assert stored(mount, mount.config) == b"port: 1\nrequest-retry: 3\n"
    until(lambda: [*mount.kept("conflicts").values()] == [by_sed], "what sed wrote is kept")
    assert mount.log().count("config/config.yaml was replaced by a rename: programs") == 1
    assert any(text.startswith("config replaced") for text in mount.status()["warnings"])
    assert mount.status()["conflicts"] == 1


def test_jq_and_a_rename(mounts: Mounts) -> None:
    need("jq")
    here, there = mounts("here"), mounts("there")
    path = here.auths / "a.json"
    write(path, b'{"a":1,"b":[1,2]}')
    shows(there.auths / "a.json", b'{"a":1,"b":[1,2]}')
    batches = Batches(here)
    with Watch(there.auths) as watch:
        script = "jq '.a = 2' a.json > a.json.tmp && mv a.json.tmp a.json"
        call(here, "sh", "-c", script)
        watch.expect("MODIFY", "a.json")
    assert json.loads((there.auths / "a.json").read_bytes()) == {"a": 2, "b": [1, 2]}
    assert stored(here, path) == path.read_bytes()
    assert batches.sent() == [[["put", "auths/a.json"]]]


def test_jq_that_fails_changes_nothing(mount: Mount) -> None:
    need("jq")
    path = mount.auths / "a.json"
    write(path, b'{"a": 1}')
    batches = Batches(mount)
    script = "jq -e .missing a.json > a.json.tmp 2> /dev/null && mv a.json.tmp a.json; true"
    call(mount, "sh", "-c", script)
    assert stored(mount, path) == path.read_bytes() == b'{"a": 1}'
    assert batches.sent() == []

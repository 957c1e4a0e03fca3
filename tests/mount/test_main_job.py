"""Real input through the mount: it comes out byte for byte, here, elsewhere and later."""

from __future__ import annotations

import errno
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import REPOSITORY, until
from tests.mount.remote import CONFIG, LONG, Remote, believed, same_but_auth_dir, tree
from tests.mount.standin_client import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

SAMPLES = REPOSITORY.parent / "shared" / "samples"

MADE_UP = {
    "config.yaml": b'# kept\r\n\r\nport: 8317 # a\r\nauth-dir: "~/x" # b\r\nkeys:\r\n- "k"\r\n',
    "auths/claude-a@example.com.json": b'{"type":"claude","access_token":"a","disabled":false}',
    "auths/codex-b+c@example.com-plus.json": '{\n  "n\u00e4me": "\u4e2d"\n}\n'.encode(),
    "auths/kimi-1790000000000.json": b'{"big": 12345678901234567890, "one": 1.0, "e": 1E+2}\n\n',
    "auths/team/second.json": b'\t{"type": "x\\u0041y", "a": 1, "a": 2}',
    "auths/team/\u00fcber ort/deep.json": b"{}",
}  # fmt: skip


@dataclass(frozen=True)
class Originals:
    """A config and a directory of tokens, outside any mount."""

    config: Path
    auths: Path


@pytest.fixture(params=["made up", "samples"])
def originals(request: pytest.FixtureRequest, tmp_path: Path) -> Originals:
    if request.param == "samples":
        if not SAMPLES.is_dir():
            pytest.skip(f"no sample files at {SAMPLES}")
        return Originals(SAMPLES / "config.example.yaml", SAMPLES / "auths")
    for name, data in MADE_UP.items():
        path = tmp_path / "originals" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Originals(tmp_path / "originals/config.yaml", tmp_path / "originals/auths")


def copy_in(originals: Originals, mount: Mount) -> None:
    subprocess.run(["cp", "-a", f"{originals.auths}/.", mount.auths], check=True)
    subprocess.run(["cp", "-a", originals.config, mount.config], check=True)


def write_in(originals: Originals, mount: Mount) -> None:
    for source in sorted(originals.auths.rglob("*")):
        target = mount.auths / source.relative_to(originals.auths)
        if source.is_dir():
            target.mkdir()
        else:
            target.write_bytes(source.read_bytes())
    mount.config.write_bytes(originals.config.read_bytes())


def check_same(originals: Originals, mount: Mount) -> None:
    """ls, cat and sha256sum say the same of both; of the config all but the auth-dir line."""
    names = sorted(str(path) for path in tree(originals.auths))
    for words in (["ls", "-A"], ["cat", *names], ["sha256sum", *names]):
        expected, shown = (
            subprocess.run(words, cwd=directory, capture_output=True, check=True).stdout
            for directory in (originals.auths, mount.auths)
        )
        assert shown == expected, words[0]
    assert tree(mount.auths) == tree(originals.auths)
    shown, original = mount.config.read_bytes(), originals.config.read_bytes()
    assert same_but_auth_dir(shown, original)
    lines = [line for line in shown.splitlines() if line.startswith(b"auth-dir:")]
    assert [line.split(b" #")[0] for line in lines] == [f'auth-dir: "{mount.auths}"'.encode()]


@pytest.mark.parametrize("bring", [copy_in, write_in], ids=["cp -a", "plain writes"])
def test_what_is_copied_in_is_the_same_everywhere(
    mounts: Mounts, originals: Originals, bring: Callable[[Originals, Mount], None]
) -> None:
    here, there = mounts("here"), mounts("there")
    with StandIn(here.config, here.auths) as near, StandIn(there.config, there.auths) as far:
        bring(originals, here)
        names = {path.name for path in originals.auths.glob("*.json")}
        close, distant = believed(near, here), believed(far, there)
    assert distant.first_reads == dict.fromkeys(names, "complete")
    assert set(close.first_reads) == names
    # Between the create and the write of the same machine a file is empty, as on any disk.
    assert set(close.first_reads.values()) <= {"complete", "empty"}
    assert close.incomplete == distant.incomplete == 0
    assert close.errors == distant.errors == {}
    check_same(originals, here)
    check_same(originals, there)
    for mount in (here, there):
        assert (mount.store / "config/config.yaml").read_bytes() == originals.config.read_bytes()
        mount.config.write_bytes(mount.config.read_bytes())  # what is shown goes back as it was
    assert (here.store / "config/config.yaml").read_bytes() == originals.config.read_bytes()
    assert tree(here.store / "auths") == tree(originals.auths)


def test_everything_outlives_an_unmount(mounts: Mounts, originals: Originals) -> None:
    here = mounts("here", start=False)
    with here:
        copy_in(originals, here)
        check_same(originals, here)
    with here:
        check_same(originals, here)
        # The first config, then one commit for each file; the restart sent nothing.
        assert len(here.commits()) == 2 + len(tree(originals.auths))
    check_same(originals, mounts("new"))


def test_a_mirror_that_was_lost_is_filled_again(mounts: Mounts, originals: Originals) -> None:
    here = mounts("here", start=False)
    with here:
        copy_in(originals, here)
    shutil.rmtree(here.root)
    with here:
        check_same(originals, here)


def test_a_days_work_of_one_proxy_reaches_the_other(mounts: Mounts, tmp_path: Path) -> None:
    Remote(tmp_path / "store").seed("a.json", "b.json", "c.json")
    here, there = mounts("here"), mounts("there")
    with StandIn(here.config, here.auths) as near, StandIn(there.config, there.auths) as far:
        near.save_from_memory("a.json", access_token="new")
        near.upload("u.json", b'{ "type": "kimi", "n": 12345678901234567890 }\n')
        near.login("l.json", {"type": "xai", "access_token": "<&>"})
        near.delete("b.json")
        near.put_config(here.config.read_text().replace("request-retry: 3", "request-retry: 7"))
        near.save_config("debug", "true")
        near.cooldown("a.json", {"status": 429})
        near.oauth("codex", "state", '{"code":"c"}')
        near.append_log("one\n", "two\n")
        near.rotate_log()
        believed(near, here)
        belief = believed(far, there)
    assert "b.json" not in belief.credentials
    assert belief.incomplete == 0
    assert "request-retry: 7" in belief.config_text
    assert set(tree(here.store)) == {
        f"auths/{name}.json" for name in "aclu"
    } | {"config/config.yaml"}  # fmt: skip
    assert b'auth-dir: "/elsewhere/auths"' in (here.store / "config/config.yaml").read_bytes()
    assert there.commits() == []


@pytest.fixture
def more() -> Path:
    if not SAMPLES.is_dir():
        pytest.skip(f"no sample files at {SAMPLES}")
    return SAMPLES / "more"


def test_awkward_documents_stay_exact_or_are_refused(mounts: Mounts, more: Path) -> None:
    here, there = mounts("here"), mounts("there")
    refused = {"array.json", "bom.json", "invalid.json", "latin1.json"}
    files = [path for path in more.iterdir() if not path.name.startswith("config-")]
    for source in files:
        target = here.auths / source.name
        if source.name in refused:
            with pytest.raises(OSError, match=r".") as failed:
                target.write_bytes(source.read_bytes())
            assert failed.value.errno == errno.EINVAL
        else:
            target.write_bytes(source.read_bytes())
        assert target.read_bytes() == source.read_bytes()
    sent = {path.name: path.read_bytes() for path in files if path.name.endswith(".json")}
    sent = {name: data for name, data in sent.items() if name not in refused}
    assert tree(here.store / "auths") == sent
    until(lambda: tree(there.auths) == sent, "the other machine has the valid ones", LONG)


def shows(mount: Mount, part: bytes) -> None:
    until(lambda: part in mount.config.read_bytes(), f"{part[:60]!r} in the config", LONG)


@pytest.mark.parametrize(
    "name", ["config-crlf.yaml", "config-flow.yaml", "config-no-auth-dir.yaml"]
)
def test_awkward_configs_are_stored_exactly(mounts: Mounts, more: Path, name: str) -> None:
    here, there = mounts("here"), mounts("there")
    original = (more / name).read_bytes()
    here.config.write_bytes(original)
    assert (here.store / "config/config.yaml").read_bytes() == original
    for mount in (here, there):
        shown = original if "flow" in name else f'auth-dir: "{mount.auths}"'.encode()
        shows(mount, shown)
        mount.config.write_bytes(mount.config.read_bytes())
        assert (here.store / "config/config.yaml").read_bytes() == original


def test_a_broken_config_is_refused_and_changes_nothing(mounts: Mounts, tmp_path: Path) -> None:
    Remote(tmp_path / "store").seed()
    here = mounts("here")
    with pytest.raises(OSError, match=r".") as failed:
        here.config.write_bytes(b"a: [\n")
    assert failed.value.errno == errno.EINVAL
    assert (here.store / "config/config.yaml").read_bytes() == CONFIG

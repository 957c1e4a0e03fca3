"""The systemd units and the helper of mount(8): accepted by systemd, and their commands work."""

import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.deploy.places import DEPLOY, command, run, unit
from tests.mount.harness import until

SCOPES = ["system", "user"]
# Each of these gives the unit a mount namespace, in which its mount would be nobody else's.
APART = ("Private", "Protect", "Bind", "Root", "TemporaryFileSystem", "MountFlags", "DynamicUser",
         "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths",
         "MountAPIVFS", "MountImages", "ExtensionImages", "ExtensionDirectories")  # fmt: skip
# Each of these implies NoNewPrivileges in a user's unit, or is it: fusermount3 is setuid.
UNPRIVILEGED = ("NoNewPrivileges", "SystemCall", "Restrict", "LockPersonality", "MemoryDeny",
                "CapabilityBoundingSet")  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_the_mounting_unit_stays_in_the_namespace_of_all(scope: str) -> None:
    names = unit(scope, "storefs.service")
    assert [name for name in names if name.startswith((*APART, *UNPRIVILEGED))] == []
    assert names["Type"] == ["notify"]


@pytest.mark.parametrize("scope", SCOPES)
def test_the_proxy_lives_and_dies_with_the_mount(scope: str) -> None:
    names = unit(scope, "cli-proxy-api.service")
    assert names["BindsTo"] == names["PartOf"] == ["storefs.service"]
    assert "storefs.service" in names["After"][0]
    assert "storefs.service" in names["WantedBy"][0]
    assert names["NoNewPrivileges"] == ["yes"]


@pytest.mark.parametrize("scope", SCOPES)
def test_systemd_accepts_the_units(scope: str, tmp_path: Path) -> None:
    """With programs in the place of those that are not installed here, as it looks for them."""
    bin_ = command(tmp_path / "bin")
    (bin_ / "cli-proxy-api").symlink_to("storefs")
    for file in (DEPLOY / scope).iterdir():
        text = file.read_text()
        for place in ("/usr/local/bin", "%h/.local/bin"):
            text = text.replace(f"ExecStart={place}", f"ExecStart={bin_}")
        (tmp_path / file.name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", f"--{scope}"]
    done = subprocess.run(
        [*words, *map(str, sorted(tmp_path.glob("*.service")))],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, [line for line in done.stderr.splitlines() if "storefs" in line
                              or "cli-proxy" in line]) == (0, []), done.stderr  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_the_command_of_the_mounting_unit_mounts_and_tells_systemd(
    scope: str, tmp_path: Path
) -> None:
    names = unit(scope, "storefs.service")
    bin_, home = command(tmp_path / "home/.local/bin"), tmp_path / "home"
    state = home / ".local/state/storefs"
    for directory in (state, home / ".config/storefs", tmp_path / "srv"):
        directory.mkdir(parents=True)

    places = {
        "%h": home, "/usr/local/bin": bin_, "/var/lib/storefs": state, "/srv": tmp_path / "srv",
        "/etc/storefs": home / ".config/storefs", "/root": home,
    }  # fmt: skip
    pattern = re.compile("|".join(map(re.escape, places)))

    def here(text: str) -> str:
        return pattern.sub(lambda found: str(places[found[0]]), text)

    (home / ".config/storefs/storefs.env").write_text((DEPLOY / ".env.example").read_text())
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "NOTIFY_SOCKET": f"{tmp_path}/notify"}
    for line in names["Environment"]:
        env |= dict(word.split("=", 1) for word in here(line).split())
    if "STOREFS_OWNER" in env:
        env["STOREFS_OWNER"] = "nobody"
    words = shlex.split(here(names["ExecStart"][0]))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(env["NOTIFY_SOCKET"])
        systemd.settimeout(30)
        process = subprocess.Popen(words, env=env, cwd=here(names["WorkingDirectory"][0]))
        try:
            assert systemd.recv(100) == b"READY=1"
            config = Path(words[2], "config/config.yaml")
            assert config.is_file()
            assert config.stat().st_uid == (65534 if scope == "system" else os.getuid())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_the_helper_of_fstab_mounts(tmp_path: Path) -> None:
    """With the words with which mount(8) calls it."""
    place, env_file = tmp_path / "srv", tmp_path / "storefs.env"
    place.mkdir()
    env_file.write_text("STOREFS_LOG_LEVEL=debug\n")
    options = (
        f"rw,_netdev,nofail,x-systemd.automount,owner=nobody,log_level=info,env_file={env_file}"
    )
    env = {"HOME": str(tmp_path), "STOREFS_STATE": f"{tmp_path}/state",
           "STOREFS_BIN": str(command(tmp_path / "bin"))}  # fmt: skip
    run(str(DEPLOY / "mount.storefs"), "storefs", str(place), "-o", options, env=env)
    try:
        assert (place / "config/config.yaml").stat().st_uid == 65534
        assert (tmp_path / "state/local/config/config.yaml").is_file()
    finally:
        run("umount", str(place))
    until(lambda: not os.path.ismount(place), "unmounted")

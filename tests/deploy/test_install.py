"""scripts/install, for one user, in a home of its own: what it makes, and what it leaves."""

import os
import subprocess
import sys
from pathlib import Path

from tests.deploy.places import TOP, run


def test_installs_runs_and_goes_without_the_data(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    cache = run(sys.executable, "-m", "pip", "cache", "dir").strip()
    env = {**os.environ, "HOME": str(home), "PIP_CACHE_DIR": cache}
    env = {name: value for name, value in env.items() if not name.startswith("XDG_")}
    install = str(TOP / "scripts/install")
    run(install, "--user", env=env)

    storefs = str(home / ".local/bin/storefs")
    assert run(storefs, "--version", env=env).startswith("storefs ")
    assert str(TOP) not in run(
        str(home / ".local/lib/storefs/bin/python"),
        "-Ic",
        "import storefs; print(storefs.__file__)",
    )
    share = home / ".local/share"
    assert "storefs mount" in (share / "man/man1/storefs.1").read_text()
    words = f"source {share}/bash-completion/completions/storefs; complete -p storefs"
    assert "-F" in run("bash", "-c", words)
    assert "#compdef storefs" in (share / "zsh/site-functions/_storefs").read_text()
    settings = home / ".config/storefs/storefs.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.write_text("# mine\n")

    run(storefs, "mount", env=env, cwd=home)
    refused = subprocess.run([install, "--user", "--uninstall"], env=env, capture_output=True,
                             text=True, check=False)  # fmt: skip
    assert refused.returncode == 1
    assert "unmount first" in refused.stderr
    run(storefs, "umount", env=env, cwd=home)

    run(install, "--user", env=env)  # an upgrade keeps the settings
    assert settings.read_text() == "# mine\n"
    said = run(install, "--user", "--uninstall", env=env)
    assert f"{share}/storefs" in said
    assert (share / "storefs/config/config.yaml").is_file()
    left = [
        path for path in home.rglob("*storefs*") if path.is_symlink() or path.suffix == ".service"
    ]
    assert left == []
    assert not (home / ".local/lib/storefs").exists()

"""The rules of this code that neither ruff, mypy nor import-linter can hold.

One function per rule; each yields the complaints it has. Reads files, changes nothing.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

LONG_FILE, LONGEST_FILE, LONGEST_FUNCTION = 300, 400, 50

# Who may import what, below storefs/. A module that imports it for another reason than the one
# said here belongs into the design first.
KNOWN_BY = {
    # One place speaks to the kernel.
    "pyfuse3": [
        "fuse.py",
        "entries.py",  # the type alone: it fills in what `fuse` makes
    ],
    # fuse.py turns exceptions into error numbers; the others may only look at an OSError's.
    "errno": [
        "fuse.py",
        "backends/*.py",  # translate() of the operating system's errors
        "commands.py",  # what the mount answers: not a storefs mount, a dead one
        "mountpoint.py",  # ENOTCONN: the mount there is dead
    ],
    # Everything else is plain code: backends block in threads, the rest does not wait.
    "trio": [
        "commit.py",
        "filling.py",
        "firstsync.py",
        "groupcommit.py",
        "locks.py",
        "mount.py",
        "names.py",
        "outgoing.py",
        "reconcile.py",
        "recovery.py",
        "rename.py",
        "scratch.py",
        "sending.py",
        "spin.py",  # stands in for it in pyfuse3
        "store.py",
        "vfs.py",
    ],
}

# Put together, so that this file does not contain what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js",
    "deb.debian" + ".org",
    "proxy.golang" + ".org",
]
# Paths that exist on one machine only. In examples a home is /home/user or /root/.cli-proxy-api.
MACHINE_PATHS = re.compile(
    "/" + r"work/(main|shared|\.library)\b"
    "|/" + r"home/(?!(user|you|me|u|alice|bob)\b)\w"
    "|/" + r"Users/\w"
    "|/" + r"root/\.(pyenv|cache|local|config)\b"
)


def long_files(file: Path, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > LONGEST_FILE:
        yield f"{file}: {lines} lines, more than {LONGEST_FILE}"
    elif lines > LONG_FILE:
        print(f"warning: {file}: {lines} lines; aim at {LONG_FILE}")


def long_functions(file: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                where = f"{file}:{node.lineno}: {node.name}"
                yield f"{where}: {lines} lines, more than {LONGEST_FUNCTION}"


def forbidden_imports(file: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in {name.partition(".")[0] for name in names} & KNOWN_BY.keys():
            if not any(fnmatch(str(file.relative_to("storefs")), one) for one in KNOWN_BY[name]):
                yield f"{file}: imports {name}; see KNOWN_BY in scripts/lib/house_rules.py"


def foreign_words(file: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for host in REGISTRIES:
            if host in line:
                yield f"{file}:{number}: names the package registry {host}"
        if found := MACHINE_PATHS.search(line):
            yield f"{file}:{number}: a path of one machine: {found.group()}"


def not_executable(file: Path, text: str) -> Iterator[str]:
    if text.startswith("#!") and not os.access(file, os.X_OK):
        yield f"{file}: is a script but not executable"
    if file.parent in (Path("scripts"), Path(".ci")) and not text.startswith("#!"):
        yield f"{file}: has no #! line"


def complaints() -> Iterator[str]:
    # What is tracked, and what would be with the next `git add .`.
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    for file in sorted({Path(name) for name in names if name}):
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        rules = [foreign_words, not_executable]
        if file.parts[0] == "storefs" and file.suffix == ".py":
            rules += [long_files, long_functions, forbidden_imports]
        for rule in rules:
            yield from rule(file, text)


def main() -> int:
    found = list(complaints())
    print(*found, f"house rules: {len(found)} broken", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

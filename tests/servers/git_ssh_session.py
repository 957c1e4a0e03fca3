"""A session over SSH in a process of its own, since libgit2 takes `~` from when it was loaded.

`python -m tests.servers.git_ssh_session URL ROOT [KEY]`: puts a document and prints what it reads.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from storefs.backends.contract import Put
from storefs.backends.git import connect
from storefs.errors import StoreError
from storefs.settings import Settings

PATH = "auths/a.json"


def main() -> int:
    url, root = sys.argv[1], Path(sys.argv[2])
    env = {"GITSTORE_GIT_URL": url, "HOME": os.environ["HOME"]}
    if sys.argv[3:]:
        env["GITSTORE_GIT_SSH_KEY"] = sys.argv[3]
    settings = Settings(mountpoint=root, local_store=root, mirror=root, backend="git", env=env)
    with closing(connect(settings)) as backend:
        (outcome,) = backend.commit([[Put(PATH, b"by ssh", None)]], 20.0)
        if isinstance(outcome, StoreError):
            print(f"{type(outcome).__name__}: {outcome}")
            return 1
        print([blob.data for _, blob in backend.read([PATH]) if blob])
    return 0


if __name__ == "__main__":
    sys.exit(main())

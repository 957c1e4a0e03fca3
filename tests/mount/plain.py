"""`storefs` as it is: `python -m tests.mount.plain CONTROL mount …`; CONTROL is for others."""

from __future__ import annotations

import sys

from storefs import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[2:]))

"""storefs over a pyfuse3 that keeps its trio to itself: `python -m tests.mount.no_trio_attribute
CONTROL mount …`, arguments as tests.mount.faulty has them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pyfuse3

from storefs import fuse
from tests.mount import faulty


class Closed(ModuleType):
    """pyfuse3 as it is, but for the one attribute."""

    def __getattr__(self, name: str) -> Any:
        if name == "trio":
            raise AttributeError(name)
        return getattr(pyfuse3, name)


if __name__ == "__main__":
    vars(fuse)["pyfuse3"] = Closed("pyfuse3")
    sys.exit(faulty.main())

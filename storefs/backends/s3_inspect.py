"""What one would list by hand: how many objects, their bytes, the latest ten."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from storefs import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.s3_objects import Objects
    from storefs.backends.s3_place import Place

_LATEST = 10


def inspect(objects: Objects, place: Place) -> Mapping[str, object]:
    """See Inspected."""
    found = [
        (item.modified_ns / 1e9, place.path_of(key), item.size)
        for top in paths.SHARED
        for key, item in objects.listing(place.key_of(f"{top}/"))
    ]
    return {
        "objects": len(found),
        "bytes": sum(size for _, _, size in found),
        "latest": [
            {"path": path, "time": moment, "size": size}
            for moment, path, size in heapq.nlargest(_LATEST, found)
        ],
    }

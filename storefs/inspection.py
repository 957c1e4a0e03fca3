"""What the store says about itself: the answer to `storefs status --backend`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.store import Store


@dataclass(slots=True)
class Inspection:
    """Asks one store."""

    store: Store

    async def backend(self, arguments: Sequence[str]) -> bytes:
        """One JSON object; see Inspected. Raises NotSupported, StoreError."""
        found = await self.store.inspect()
        if found is None:
            raise NotSupported(f"{self.store.backend.identity} says nothing more about itself")
        return json.dumps(found, ensure_ascii=False).encode(errors="replace") + b"\n"

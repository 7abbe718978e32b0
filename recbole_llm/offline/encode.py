"""The stage ``encode``: item texts to vectors in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_llm.features.attach import encode_dataset
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.text import Encoded
from recbole_llm.offline.stage import Stage, StageReport

_UNITS = {"item_text": "texts", "item_image": "pictures"}


class EncodeStage(Stage):
    """Attaches ``item_text`` to the data set; its units are the rows of the store.

    Whether they are there is known only from the texts themselves, so the artifact is no more
    than a record, and the store is looked into each time.
    """

    name = "encode"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What is encoded of the items."""
        return _UNITS.get(ItemSettings.of(self.config).item_feature, "items")

    @cached_property
    def encoded(self) -> Encoded:
        """The items' vectors and what was encoded."""
        return encode_dataset(self.config, self.dataset)

    def inputs(self) -> Mapping[str, Any]:
        """The fingerprint of the table covers encoder, precision, prompt and texts."""
        return {"item_text": self.encoded.table.fingerprint}

    def work(self, folder: Path) -> tuple[int, int]:
        """Nothing is left to do once the inputs are known."""
        report = self.encoded.encoding
        if report is None:  # vectors from a file
            return len(self.encoded.table) - 1, 0
        return report.cached, report.encoded

    def complete(self) -> StageReport:
        """Encode what the store lacks, and record it."""
        start = time.perf_counter()
        there, done = self.work(self.path)
        if self.encoded.encoding is not None:
            super().complete()
        return StageReport(self.name, there, done, self.unit, time.perf_counter() - start)

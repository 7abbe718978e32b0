"""The stage ``encode``: item texts to vectors in the store."""

from __future__ import annotations

import time

from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.features.attach import encode_dataset
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.text import Encoded
from recbole_llm.offline.stage import StageReport

_UNITS = {"item_text": "texts", "item_image": "pictures"}


class EncodeStage:
    """Attaches the items' vectors to the data set.

    It has no artifact: it looks the vectors up in the store each time. Its units are rows there.
    """

    encoded: Encoded

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config, self.dataset = config, dataset

    def complete(self) -> StageReport:
        """Encode what the store lacks."""
        start = time.perf_counter()
        self.encoded = encode_dataset(self.config, self.dataset)
        table, report = self.encoded
        before, done = (len(table) - 1, 0) if report is None else (report.cached, report.encoded)
        unit = _UNITS.get(ItemSettings.of(self.config).item_feature, "items")
        return StageReport("encode", before, done, unit, time.perf_counter() - start)

"""MIRM, which tunes the language model behind the item vectors on items and histories first.

Three tasks (section 3.1 of the paper): picture -> description, structured attributes ->
description, history -> next item. Histories have training interactions alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from recbole_llm.data.rows.training import training_histories
from recbole_llm.features.contents.pictures import find_pictures
from recbole_llm.features.contents.prompts import descriptive_fields, item_file, item_titles
from recbole_llm.features.encoders.adapters import sees_pictures
from recbole_llm.features.settings import ItemSettings
from recbole_llm.models.molar.settings import MIRMSettings
from recbole_llm.offline.adapter_stage import TuneStage
from recbole_llm.offline.adapter_training import Sample

Rows = dict[str, dict[str, str]]


class MIRMStage(TuneStage):
    """Tunes the encoder's model on the three tasks; the picture task needs a model that reads
    pictures, and `item_feature` item_image or item_multimodal."""

    name = "mirm"

    def samples(self) -> Sequence[Sample]:
        """The samples of all three tasks."""
        return [*self._pictures(), *self._attributes(), *self._histories()]

    @cached_property
    def _rows_and_title_field(self) -> tuple[Rows, str]:
        """Return the rows of items that have an id, and the field that describes an item."""
        file = item_file(self.config, self.dataset)
        known = self.dataset.field2token_id[self.dataset.iid_field]
        rows = {t: r for t, r in file.rows_by_id(self.dataset.iid_field).items() if t in known}
        chosen = MIRMSettings.of(self.config).mirm_description_field
        fields = descriptive_fields(self.config, file, self.dataset.iid_field)
        if not fields or (chosen is not None and chosen not in file.types):
            what = f"no field '{chosen}'" if chosen else "no text field"
            raise ValueError(
                f"mirm_description_field: '{file.path}' has {what}; it has {file.describe_fields()}"
            )
        longest = max(fields, key=lambda f: sum(len(row[f]) for row in rows.values()))
        return rows, chosen or longest

    def _pictures(self) -> Iterator[Sample]:
        reads_text_alone = ItemSettings.of(self.config).item_feature == "item_text"
        if reads_text_alone or not sees_pictures(self.source):
            return
        rows, field = self._rows_and_title_field
        for token, picture in find_pictures(self.config, self.dataset, list(rows)).items():
            if description := rows[token][field]:
                yield Sample(
                    "picture", "Describe the item.", description, picture.file, subject=token
                )

    def _attributes(self) -> Iterator[Sample]:
        rows, field = self._rows_and_title_field
        excluded_fields = (field, self.dataset.iid_field, self.config["item_image_field"])
        for token, row in rows.items():
            kept = {f: v for f, v in row.items() if v and f not in excluded_fields}
            if kept and row[field]:
                listed = "; ".join(f"{f.replace('_', ' ')}: {v}" for f, v in kept.items())
                yield Sample(
                    "attributes", f"Describe the item. {listed}", row[field], subject=token
                )

    def _histories(self) -> Iterator[Sample]:
        titles = item_titles(self.config, self.dataset)
        names = self.dataset.field2id_token[self.dataset.iid_field]
        most = MIRMSettings.of(self.config).mirm_history
        for _, history in training_histories(self.dataset):
            *before, last = [titles.get(str(names[i])) or "" for i in history[-most - 1 :]]
            listed = "; ".join(title for title in before if title)
            if listed and last:
                yield Sample("history", f"The user chose: {listed}. What comes next?", last)

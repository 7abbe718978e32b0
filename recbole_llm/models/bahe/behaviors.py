"""Behaviors: what users did, as texts; each distinct behavior is encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from recbole.utils import FeatureSource, FeatureType

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.config import Config
from recbole_llm.core.errors import near_hint
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.features.contents.prompts import Texts, item_texts
from recbole_llm.features.contents.templates import PromptError, Template
from recbole_llm.features.tables.table import EmbeddingTable
from recbole_llm.features.text import encode_named
from recbole_llm.models.bahe.settings import BAHESettings

BEHAVIOR = "behavior_id"
_NUMBERS = "behavior_field"  # the vocabulary of behavior fields that are numbers


class Behavior(NamedTuple):
    """A distinct behavior: the behavior field that it belongs to, and its text."""

    field: str
    text: str


class BehaviorDataset(SequentialDataset):
    """A sequential data set whose interactions name their behavior, if BAHE's keys ask for it.

    The column `BEHAVIOR` numbers ``behaviors`` from 1; 0 is the item alone. A behavior includes the
    outcome for the item, such as a rating, so it is read in histories and never for targets. If
    there are behavior fields, an item alone belongs to none of them and is not read.
    ``behavior_fields`` lists all fields that can occur. They come from a vocabulary that a
    checkpoint keeps, so that files may gain and lose fields.
    """

    config: Config
    behaviors: tuple[Behavior, ...] = ()
    behavior_fields: tuple[str, ...] = ("",)

    def _fill_nan(self) -> None:
        # RecBole then replaces missing numbers by the mean of all interactions, held-out ones too.
        settings = BAHESettings.of(self.config)
        if settings.behavior_prompt is not None or settings.behavior_field is not None:
            self._name_behaviors(settings)
        super()._fill_nan()

    def _name_behaviors(self, settings: BAHESettings) -> None:
        texts = item_texts(self.config, self)
        columns = self.inter_feat[[self.iid_field, *self._read_fields(settings)]]
        kinds = columns.drop_duplicates()
        name, template = settings.behavior_field, settings.behavior_template()
        of_kinds = [self._behavior(name, template, row, texts) for row in kinds.to_dict("records")]
        self.behavior_fields = self._list_fields(name, of_kinds)
        if not self.behavior_fields:
            raise ValueError(f"behavior_field: no interaction has a value of '{name}'")
        known = [behavior for behavior in of_kinds if behavior.field in self.behavior_fields]
        self.behaviors = tuple(dict.fromkeys(known))
        number = {behavior: i for i, behavior in enumerate(self.behaviors, start=1)}
        kinds = kinds.assign(**{BEHAVIOR: [number.get(behavior, 0) for behavior in of_kinds]})
        numbered = columns.merge(kinds, how="left", on=list(columns))
        self.inter_feat[BEHAVIOR] = numbered[BEHAVIOR].to_numpy()
        self.set_field_property(BEHAVIOR, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.logger.info(
            f"behaviors: {len(self.behaviors)} distinct ones in {len(columns)} interactions"
        )

    def number_as(self, other: BehaviorDataset) -> None:
        """Number behaviors as another data set; a behavior that it lacks becomes the item alone."""
        number = {behavior: i for i, behavior in enumerate(other.behaviors, start=1)}
        if self.behaviors:
            other_number = [0, *(number.get(behavior, 0) for behavior in self.behaviors)]
            self.inter_feat[BEHAVIOR] = np.array(other_number)[self.inter_feat[BEHAVIOR].to_numpy()]
        self.behaviors, self.behavior_fields = other.behaviors, other.behavior_fields

    def _list_fields(self, name: str | None, behaviors: Iterable[Behavior]) -> tuple[str, ...]:
        if name is None:
            return ("",)
        if self.field2type[name] == FeatureType.TOKEN:
            return tuple(sorted(str(token) for token in self.field2id_token[name][1:]))
        names = [PADDING, *sorted({behavior.field for behavior in behaviors} - {""})]
        tokens = self.vocabulary.get(_NUMBERS, np.array(names, dtype=object))
        self.field2id_token[_NUMBERS] = tokens
        return tuple(str(name) for name in tokens[1:])

    def _read_fields(self, settings: BAHESettings) -> list[str]:
        """Return the interaction fields that the template and `behavior_field` name."""
        single = (FeatureType.TOKEN, FeatureType.FLOAT)
        known = [f for f in self.inter_feat if self.field2type[f] in single and f != self.uid_field]
        template, name = settings.behavior_template(), settings.behavior_field
        if template is not None:
            try:
                template.check({*known, "item"})
            except PromptError as error:
                raise PromptError(f"{error} (further fields are loaded by load_col)") from None
        if name is not None and name not in known:
            raise ValueError(
                f"behavior_field: the interactions have no field '{name}'; "
                f"{near_hint(name, known)}loaded are: {', '.join(known)} (load_col); "
                f"`recbole-llm convert … --keep={name}` takes the field from tables"
            )
        read = {name} if template is None else {name, *template.variables()}
        return [f for f in known if f in read and f != self.iid_field]

    def _behavior(
        self, name: str | None, template: Template | None, row: dict[str, Any], texts: Texts
    ) -> Behavior:
        values = {field: self._value(field, value) for field, value in row.items()}
        text = texts.get(values[self.iid_field], "")
        if template is not None:
            text = template.render({**values, "item": text})
        return Behavior("" if name is None else str(values[name]), text)

    def _value(self, field: str, value: float) -> Any:
        """Return the value as a template sees it; "" if it is missing, as in item templates."""
        if self.field2type[field] == FeatureType.FLOAT:
            return "" if np.isnan(value) else value
        return str(self.field2id_token[field][int(value)]) if value else ""


def behavior_text(config: Config, dataset: BehaviorDataset) -> EmbeddingTable:
    """Build the feature ``behavior_text``: [m + 1, D], by the numbers of the column `BEHAVIOR`;
    zeros for the padding and for behaviors without a text."""
    # No weight depends on a behavior's number, and files may gain, lose or reorder behaviors. So
    # the table's fingerprint covers only what makes its vectors.
    texts = {str(i): b.text for i, b in enumerate(dataset.behaviors, start=1) if b.text}
    if not texts:
        raise ValueError("behavior_prompt: the text of every behavior is empty")
    table = encode_named(config, texts, "behavior")
    matrix = np.zeros((len(dataset.behaviors) + 1, table.dimension), np.float32)
    matrix[[int(name) for name in table.tokens]] = table.matrix
    names = [str(i) for i in range(len(matrix))]
    return EmbeddingTable(matrix, names, table.source, table.source)


def field_numbers(dataset: BehaviorDataset) -> IntArray:
    """Return the behavior field of each behavior, int [m + 1]; -1 (none) for an item alone if there
    are behavior fields."""
    names = dataset.behavior_fields
    alone = 0 if names == ("",) else -1
    return np.array([alone, *(names.index(b.field) for b in dataset.behaviors)], dtype=np.int64)

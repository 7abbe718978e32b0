"""Data sets of knowledge graphs whose users, items and entities have the ids of a vocabulary."""

from __future__ import annotations

import numpy as np

from recbole_llm.core.errors import first_names
from recbole_llm.data.datasets.vocabulary import Names, VocabularyDataset


class KnowledgeVocabularyDataset(VocabularyDataset):
    """A `VocabularyDataset` for RecBole's knowledge graphs, which number items and entities
    separately, then merge the two, and add relations of their own."""

    def _get_rec_item_token(self) -> set[str]:
        present = super()._get_rec_item_token()
        return present | set(self.vocabulary.get(self.iid_field, ())) | set(self.listed)

    def _get_entity_token(self) -> set[str]:
        present = super()._get_entity_token()
        return present | set(self.vocabulary.get(self.head_entity_field, ()))

    def _remap_ID_all(self) -> None:
        if self.vocabulary:
            self._unlink(set(self.vocabulary[self.iid_field]))
            self._check_links()
        super()._remap_ID_all()

    def _leave_out_unseen_items(self) -> None:
        super()._leave_out_unseen_items()
        self._unlink(self._seen_items())

    def _unlink(self, kept: set[str]) -> None:
        """Drop the links of items outside `kept`, which get no id."""
        for item in [item for item in self.item2entity if item not in kept]:
            self.entity2item.pop(self.item2entity.pop(item), None)

    def _check_links(self) -> None:
        """Refuse links that differ from the checkpoint's, because ids of entities follow them."""
        items, entities = (self.vocabulary[f] for f in (self.iid_field, self.head_entity_field))
        then = zip(items[1:], entities[1:])  # an item without an entity has its own token
        other = [item for item, entity in then if self.item2entity.get(item, item) != entity]
        if other:
            raise ValueError(
                f"'{self.dataset_name}.link': items {first_names(other)} had other entities, or "
                f"none, when the checkpoint was trained; link them as they were, or train again"
            )

    def first_tokens(self, field: str) -> Names:
        """The vocabulary's tokens without those that RecBole adds itself: items without an entity,
        reverse relations and [UI-Relation]."""
        tokens = super().first_tokens(field)
        if field == self.relation_field:
            own = len(tokens) - 1  # the last is [UI-Relation]
            return tokens[: own // 2 if self.kg_reverse_r else own]
        if field in self.alias["entity_id"]:
            items = self.vocabulary[self.iid_field][1:]
            unlinked = np.zeros(len(tokens), bool)
            unlinked[: len(items)] = [item not in self.item2entity for item in items]
            return tokens[~unlinked]
        return tokens

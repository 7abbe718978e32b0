"""Checks of the shapes that a sequential model's own methods return."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_llm.layers.exporting import is_exporting


def checked_states(model: Any, item_seq: Tensor, mask: Tensor) -> Tensor:
    """Return the model's `user_states`, [B, L, D].

    Raises:
        ValueError: in one line: the model, what it returned, and the shape that is needed.
    """
    states = model.user_states(item_seq, mask)
    if is_exporting():  # sizes are symbols then
        return states
    batch, length = item_seq.shape
    if not isinstance(states, Tensor) or states.shape[:-1] != item_seq.shape:
        raise ValueError(
            f"user_states of {type(model).__name__} returned {_describe(states)}; it is to return "
            f"a tensor [{batch}, {length}, D]: a state after each of the {length} places of each "
            f"of the {batch} histories"
        )
    return states


def checked_items(model: Any, states: Tensor, ids: Tensor | None = None) -> Tensor:
    """Return the model's `item_vectors`, which `states` [T, D] are to be multiplied by: [n, D], or
    [*, D] for `ids` [*].

    Raises:
        ValueError: in one line: the model, what it returned, and the shape that is needed.
    """
    items = model.item_vectors(ids)
    places = (model.n_items,) if ids is None else tuple(ids.shape)
    wanted = [*places, states.shape[-1]]
    if not isinstance(items, Tensor) or list(items.shape) != wanted:
        whole = f"all {model.n_items} items, the padding included, " if ids is None else ""
        raise ValueError(
            f"item_vectors({'' if ids is None else 'ids'}) of {type(model).__name__} returned "
            f"{_describe(items)}; it is to return a tensor {wanted}: {whole}as wide as the states"
        )
    return items


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return "None" if value is None else f"an object of type {type(value).__name__}"

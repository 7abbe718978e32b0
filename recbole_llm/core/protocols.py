"""What the key ``protocol`` stands for."""

from __future__ import annotations

from typing import Any

PROTOCOLS = {
    "leave-one-out": {
        "split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full",
    },
    "random": {
        "split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full",
    },
}  # fmt: skip
_IN_ORDER = "{'split': {'RS': [0.8, 0.1, 0.1]}, 'order': 'TO', 'group_by': 'user', 'mode': 'full'}"


def stands_for(protocol: str, model: str, in_order: bool) -> dict[str, Any]:
    """The eval_args of a protocol; none of an unknown one, which the settings' check refuses.

    Args:
        protocol: its name.
        model: that is evaluated.
        in_order: whether the model reads histories in order.

    Raises:
        ValueError: the model cannot be evaluated so.
    """
    if protocol == "random" and in_order:
        raise ValueError(
            f"protocol: random takes items out of the middle of a history, which {model} reads in "
            f'order; choose leave-one-out, or split in order of time: --eval_args="{_IN_ORDER}"'
        )
    return dict(PROTOCOLS.get(protocol, {}))

"""For tests of plugins and of this package: tiny data, a fake encoder, contracts of models, probes.

The module is a plugin, which brings the encoder kind ``hash``:
``get_plugins().register(recbole_llm.testing, "testing")``.
"""

from __future__ import annotations

from recbole_llm.testing.ctr import CTRModelTests
from recbole_llm.testing.device import second_device
from recbole_llm.testing.encoder import HashEncoder, hash_encoder, register_encoders
from recbole_llm.testing.models import ModelTests, SequentialModelTests
from recbole_llm.testing.probes import future_leak, padding_effect
from recbole_llm.testing.tiny import write_tiny_dataset

__all__ = [
    "CTRModelTests",
    "HashEncoder",
    "ModelTests",
    "SequentialModelTests",
    "future_leak",
    "hash_encoder",
    "padding_effect",
    "register_encoders",
    "second_device",
    "write_tiny_dataset",
]

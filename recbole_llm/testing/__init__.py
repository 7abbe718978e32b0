"""Tools for tests of plugins and of this package: tiny data, a fake encoder, model contracts.

The module is also a plugin, which registers the encoder kind ``hash``:
``get_plugins().register(recbole_llm.testing, "testing")``.
"""

from __future__ import annotations

from recbole_llm.testing.ctr import CTRModelTests as CTRModelTests
from recbole_llm.testing.device import second_device as second_device
from recbole_llm.testing.encoder import HashEncoder as HashEncoder
from recbole_llm.testing.encoder import hash_encoder as hash_encoder
from recbole_llm.testing.encoder import register_encoders as register_encoders
from recbole_llm.testing.models import ModelTests as ModelTests
from recbole_llm.testing.models import SequentialModelTests as SequentialModelTests
from recbole_llm.testing.tiny import write_tiny_dataset as write_tiny_dataset

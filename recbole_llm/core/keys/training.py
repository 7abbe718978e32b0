"""RecBole's own keys of a run and its training, with types and ranges that RecBole leaves open.

Defaults are RecBole's, from its ``properties/overall.yaml``.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from recbole_llm.core.marks import Local, NoEffectOnResults
from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    FieldName,
    Flag,
    Natural,
    Nested,
    NonNegative,
    Positive,
    Settings,
    Space,
    Text,
    as_list,
)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class RecBoleRun(Settings):
    """RecBole's keys of the run."""

    gpu_id: Local[NoEffectOnResults[Annotated[list[int], BeforeValidator(as_list)] | Text]] = "0"
    """Ids of GPUs."""
    worker: Local[Natural] = 0
    """Worker processes of the data loaders; random numbers depend on how many there are."""
    use_gpu: Local[NoEffectOnResults[Flag]] = True
    """Whether to use a GPU where there is one."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 2020
    """Random seed."""
    state: Local[
        NoEffectOnResults[
            Annotated[
                Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
            ]
        ]
    ] = "info"
    """Level of the log."""
    reproducibility: Flag = True
    """Whether results are reproducible."""
    data_path: NoEffectOnResults[Text] = "dataset/"
    """Folder of the data sets' folders."""
    checkpoint_dir: Local[NoEffectOnResults[FieldName]] = "saved"
    """Folder of checkpoints."""
    show_progress: Local[NoEffectOnResults[Flag]] = True
    """Whether bars are shown."""
    save_dataset: Local[NoEffectOnResults[Flag]] = False
    """Without effect here: nothing is pickled, and reading the atomic files is just as fast."""
    dataset_save_path: Local[NoEffectOnResults[Text | None]] = None
    """Without effect here."""
    save_dataloaders: Local[NoEffectOnResults[Flag]] = False
    """Without effect here."""
    dataloaders_save_path: Local[NoEffectOnResults[Text | None]] = None
    """Without effect here."""
    log_wandb: Local[NoEffectOnResults[Flag]] = False
    """Whether to log to Weights & Biases."""
    wandb_project: Local[NoEffectOnResults[Text]] = "recbole"
    """Project in Weights & Biases."""
    shuffle: Flag = True
    """Whether training rows are shuffled before each epoch."""

    def check(self, config: ConfigLike) -> None:
        """Refuse log_wandb if the package is not installed."""
        if self.log_wandb and find_spec("wandb") is None:
            raise ValueError(
                "log_wandb: the package 'wandb' is not installed: pip install wandb, or leave "
                "log_wandb out"
            )


class NegativeSampling(Nested):
    """Negative sampling in training."""

    distribution: Literal["uniform", "popularity", "none", "None"] | None = "uniform"
    """Distribution of negative items."""
    sample_num: Count | Literal["none"] = 1
    """Negatives for each target."""
    alpha: NonNegative | Literal["none"] = 1.0
    """Power of the items' counts, for popularity."""
    dynamic: Flag = False
    """Whether the hardest of `candidate_num` negatives is taken."""
    candidate_num: Natural = 0
    """Candidates of dynamic sampling."""

    @model_validator(mode="after")
    def _hardest_of_some(self) -> Self:
        if self.dynamic and not self.candidate_num:
            raise ValueError("dynamic: takes the hardest of candidate_num negatives; set that too")
        return self

    @property
    def drawn(self) -> bool:
        """Whether any negatives are drawn."""
        return self.distribution in ("uniform", "popularity")


class Clipping(Nested):
    """Arguments of ``torch.nn.utils.clip_grad_norm_``."""

    max_norm: Positive
    """Largest norm of the gradients."""
    norm_type: Positive = 2.0
    """Order of the norm, such as 2."""
    error_if_nonfinite: Flag = False
    """Whether gradients that are not finite are an error."""
    foreach: Flag | None = None
    """Whether all gradients are clipped in one call."""


class RecBoleTraining(Settings):
    """RecBole's keys of training."""

    search_space: ClassVar[Space] = {"learning_rate": Between(1e-4, 1e-2)}

    epochs: Count = 300
    """Maximum number of epochs."""
    train_batch_size: Count = 2048
    """Rows, or supervised targets, in a batch. One with k negatives counts as k, or as 1 + k in
    models of labels."""
    learner: Annotated[
        Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"], BeforeValidator(_lower)
    ] = "adam"
    """Optimizer."""
    learning_rate: Positive = 0.001
    """Learning rate."""
    train_neg_sample_args: NegativeSampling | Literal["None"] | None = NegativeSampling()
    """Negative sampling in training."""
    eval_step: Natural = 1
    """Epochs between evaluations on validation; 0: none."""
    stopping_step: Natural = 10
    """Evaluations without improvement that early stopping tolerates."""
    clip_grad_norm: Clipping | None = None
    """Clipping of the gradients."""
    weight_decay: NonNegative = 0.0
    """Weight decay of the optimizer."""
    loss_decimal_place: NoEffectOnResults[Natural] = 4
    """Decimals of the logged loss."""
    require_pow: Flag = False
    """Whether EmbLoss squares the norms of the embeddings."""
    enable_amp: Flag = False
    """Mixed precision: bfloat16; float16 with enable_scaler, and on GPUs that lack bfloat16."""
    enable_scaler: Flag = False
    """Scaled gradients under mixed precision, which float16 needs."""
    transform: (
        Literal[
            "mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"
        ]
        | None
    ) = None
    """Transformation of batches."""

    @classmethod
    def searched(cls, config: ConfigLike) -> Space:
        """The search space of models that an optimizer trains; empty for others."""
        kind = getattr(config["MODEL_TYPE"], "name", None)  # None: its class cannot be loaded
        without = kind in ("TRADITIONAL", "DECISIONTREE") or config["model"] == "NCEPLRec"
        return {} if without else cls.search_space

    def check(self, config: ConfigLike) -> None:
        """Refuse negatives for sequential models with cross entropy over the catalogue."""
        catalogue = config["MODEL_TYPE"].name == "SEQUENTIAL" and config["loss_type"] == "CE"
        sampling = self.train_neg_sample_args
        if catalogue and isinstance(sampling, NegativeSampling) and sampling.drawn:
            raise ValueError(
                "train_neg_sample_args: loss_type CE is over the whole catalogue and takes no "
                "negatives; leave it out, or choose another loss_type"
            )

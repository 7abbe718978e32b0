"""Keys of the sequence engine and of its loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.keys.training import RecBoleTraining
from recbole_llm.core.marks import NoEffectOnResults, PartOfProtocol
from recbole_llm.core.settings import ConfigLike, Count, Flag, NonNegative, Settings
from recbole_llm.hookspecs import hookimpl

LONGEST_ON_DISK = 2**16  # items of a history that is read from disk
# Keys that RecBole's transformations read, and that it gives no default.
_SHARES = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}
# The columns that may be named; of the last two sequential models read none.
_ON_DISK = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "RATING_FIELD", "LABEL_FIELD")
_IN_MEMORY = (
    "benchmark_filename", "rm_dup_inter", "val_interval", "threshold", "discretization",
    "preload_weight", "additional_feat_suffix", "numerical_features", "unused_col",
    "alias_of_user_id", "alias_of_item_id",
)  # fmt: skip


class EngineSettings(Settings):
    """Data and evaluation of RecBole-LLM."""

    train_level: Literal["prefix", "sequence"] = "prefix"
    """'sequence': one row a window of a history, a loss at every position; 'prefix': RecBole's
    rows, one target each. Causal models default to 'sequence', except with ready-made
    splits (benchmark_filename), which hold rows and no histories."""
    window_stride: Count | Literal["full"] | None = None
    """Targets that a full window supervises, 1 to MAX_ITEM_LIST_LENGTH, for train_level: sequence.
    None: MAX_ITEM_LIST_LENGTH // 4 + 1, at least three quarters of a window of context each;
    MAX_ITEM_LIST_LENGTH // 2 + 1: half a window, faster; full: MAX_ITEM_LIST_LENGTH, the fastest;
    1: RecBole's context, at the cost of a window a target."""
    item_table: Literal["dense", "sparse"] = "dense"
    """'sparse': a step updates the rows of a sequential model's item table that it read, by
    SparseAdam; without, it updates all, and holds a gradient for each: too much for millions of
    items (docs/large-data.md)."""
    eval_memory_mib: NonNegative = 128
    """Memory in MiB that sizes a step of full-sort evaluation, in users, and in items where all of
    them leave room for few users (docs/large-data.md); 0: RecBole's own sizes (eval_batch_size
    scores a step)."""

    negatives_exclude: Literal["target", "history"] = "target"
    """What sequential models never draw as a training negative: the target alone (RecBole), or the
    user's whole training history (the authors of PAD and LLM-ESR)."""
    split_seed: PartOfProtocol[Annotated[int, Field(ge=0, lt=2**32)] | None] = None
    """Seed of a random split (eval_args: order RO), so that runs with other seeds share it. None:
    seed."""
    item_catalogue: PartOfProtocol[Literal["interactions", "item_file"]] = "interactions"
    """The items that training and evaluation rank: those with interactions (RecBole), or all of the
    .item file besides. A checkpoint keeps the items that it was trained with."""
    eval_candidates: PartOfProtocol[Literal["fixed", "drawn"]] = "fixed"
    """Negatives of sampled evaluation (eval_args: mode uniN or popN). 'fixed': a user has the same
    in every evaluation, whatever the model and the seed, none of which the user had before the
    held-out item; 'drawn': others each time, as in RecBole."""
    recommend_new_items: Flag = True
    """Whether recommend ranks further items of the .item file too, and reads them in histories, by
    models that know items by text: it then encodes those that are not encoded yet."""
    interactions: NoEffectOnResults[Literal["memory", "disk"]] = "memory"
    """'disk': a sequential model's interactions are sorted into files beside the .inter file, once,
    and read from there: for more than memory holds (docs/large-data.md)."""
    sort_memory_mib: NoEffectOnResults[Annotated[int, Field(ge=128)]] = 1024
    """Memory in MiB for sorting them."""
    exact_times: PartOfProtocol[Flag] = True
    """Whether interactions are ordered and split by their times as the file has them; False: by
    RecBole's float32, in which Unix seconds are the same for a minute or two."""

    @property
    def ranking_bytes(self) -> int:
        """Memory of a step that ranks, also where evaluation has RecBole's sizes."""
        return int((self.eval_memory_mib or EngineSettings().eval_memory_mib) * 2**20)

    def check(self, config: ConfigLike) -> None:
        """Windows that fit the histories, and a model and data that suit whole sequences."""
        if self.split_seed is not None and not splits_at_random(config):
            raise ValueError(
                "split_seed: this split is not drawn at random; leave it out, or split at random: "
                "--protocol=random"
            )
        length = config["MAX_ITEM_LIST_LENGTH"]
        if isinstance(self.window_stride, int) and self.window_stride > length:
            raise ValueError(
                f"window_stride: expected 1 to MAX_ITEM_LIST_LENGTH ({length}), got "
                f"{self.window_stride}"
            )
        if config["model"] == "BERT4Rec" and config["transform"] != "mask_itemseq":
            raise ValueError("transform: BERT4Rec learns masked items; leave it at mask_itemseq")
        share = _SHARES.get(str(config["transform"]))
        if share is not None and config[share] is None:
            raise ValueError(
                f"{share}: transform: {config['transform']} needs it, the share of a history that "
                f"it takes; set such as --{share}=0.6"
            )
        if self.train_level == "sequence":
            _check_sequence_level(config)
        if self.item_table == "sparse":
            _check_sparse(config)
        if self.interactions == "disk":
            self._check_disk(config)

    def _check_disk(self, config: ConfigLike) -> None:
        """Refuse what interactions are read for in memory."""
        why = "is not there with interactions: disk, which keeps users, items and times"
        for key in _IN_MEMORY:
            if config[key]:
                raise ValueError(f"{key}: {why}; leave it out, or set interactions: memory")
        for key in ("user_inter_num_interval", "item_inter_num_interval"):
            if config[key] not in (None, "[0,inf)"):
                raise ValueError(f"{key}: {why}; filter the file, or set interactions: memory")
        columns = config["load_col"] or {}
        names = columns.get("inter")
        read = {config[key] for key in _ON_DISK}
        if set(columns) != {"inter"} or not isinstance(names, list) or set(names) - read:
            raise ValueError(
                f"load_col: another file or column {why}; set it to {{'inter': "
                f"{[config[key] for key in _ON_DISK[:3]]}}}, or set interactions: memory"
            )
        if self.item_catalogue != "interactions":
            raise ValueError(f"item_catalogue: {self.item_catalogue} {why}; leave it out")
        if not self.exact_times:
            raise ValueError("exact_times: False needs interactions: memory")
        if config["MAX_ITEM_LIST_LENGTH"] > LONGEST_ON_DISK:
            raise ValueError(
                f"MAX_ITEM_LIST_LENGTH: at most {LONGEST_ON_DISK} with interactions: disk"
            )


def _check_sequence_level(config: ConfigLike) -> None:
    if not supports_sequence_level(getattr(config, "model_class")):
        raise ValueError(
            f"train_level: sequence is for causal models with a loss at every position, which "
            f"'{config['model']}' is not; set train_level: prefix"
        )
    if config["transform"] is not None:
        raise ValueError(
            f"transform: {config['transform']} changes prefix rows; with it set train_level: prefix"
        )
    sampling = config["train_neg_sample_args"]
    if isinstance(sampling, dict) and sampling.get("dynamic", False):
        raise ValueError(
            "train_neg_sample_args: dynamic negatives are for prefix rows; set dynamic: False, "
            "or train_level: prefix"
        )


def _check_sparse(config: ConfigLike) -> None:
    """Refuse what would touch all rows of the table in each step."""
    if not supports_sequence_level(getattr(config, "model_class")):
        raise ValueError(f"item_table: {config['model']} has no sparse one; leave it dense")
    if config["loss_type"] == "CE":
        raise ValueError(
            "loss_type: CE scores every item for every target, and its gradient has a row for each "
            "item; with item_table=sparse sample some: --loss_type=SSM "
            "--train_neg_sample_args=\"{'distribution': 'uniform', 'sample_num': 100}\""
        )
    learner = RecBoleTraining.of(config).learner
    if learner not in ("adam", "adamw"):
        raise ValueError(
            f"learner: with item_table: sparse the table learns by Adam, not by {learner}; leave "
            f"it at adam, or set item_table: dense"
        )
    for key in ("weight_decay", "clip_grad_norm", "enable_scaler"):
        if config[key]:
            raise ValueError(f"{key}: needs the gradients of all items; set item_table: dense")


def splits_at_random(config: ConfigLike) -> bool:
    """Whether a seed decides which interactions are for training, validation and test."""
    args = RecBoleEvaluation.of(config).eval_args
    in_time = args.order == "TO" or (args.split is not None and args.split.TS is not None)
    return not in_time and not config["benchmark_filename"]


def supports_sequence_level(model: type) -> bool:
    """Whether a model class reads sequence rows: it has ``user_states`` at every position."""
    return callable(getattr(model, "user_states", None))


@hookimpl
def register_settings(register: Callable[[str | type], None]) -> None:
    """Checked in every run."""
    register(EngineSettings)

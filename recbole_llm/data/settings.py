"""Keys of the sequence engine and of its loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from recbole_llm.core import model_traits
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.keys.training import RecBoleTraining
from recbole_llm.core.marks import NoEffectOnResults, PartOfProtocol
from recbole_llm.core.settings import ConfigLike, Count, Flag, NonNegative, Settings
from recbole_llm.hookspecs import hookimpl

LONGEST_ON_DISK = 2**16  # items per history read from disk
# Keys that RecBole's transforms read, and for which it has no default.
_SHARES = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}
# The columns that load_col may name; sequential models read neither of the last two.
_ON_DISK = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "RATING_FIELD", "LABEL_FIELD")
_IN_MEMORY = (
    "benchmark_filename", "rm_dup_inter", "val_interval", "threshold", "discretization",
    "preload_weight", "additional_feat_suffix", "numerical_features", "unused_col",
    "alias_of_user_id", "alias_of_item_id",
)  # fmt: skip


class EngineSettings(Settings):
    """Data and evaluation of RecBole-LLM."""

    train_level: Literal["prefix", "sequence"] = "prefix"
    """'sequence': each row is a window of a history, with a loss at every position; 'prefix':
    RecBole's rows, with one target each. Causal models default to 'sequence', except with
    ready-made splits (benchmark_filename), which hold rows instead of histories."""
    window_stride: Count | Literal["full"] | None = None
    """With train_level: sequence, the number of targets that a full window supervises, from 1 to
    L = MAX_ITEM_LIST_LENGTH. None: L // 4 + 1, so that targets have at least 3/4 of a window of
    context; L // 2 + 1: at least half a window, faster; full: L, the fastest; 1: the same context
    as in RecBole, at the cost of one window per target."""
    item_table: Literal["dense", "sparse"] = "dense"
    """'sparse': a step updates only the rows that it read of a sequential model's item table, with
    SparseAdam; 'dense': it updates all rows and holds a gradient for each, which is too much for
    millions of items (docs/large-data.md)."""
    eval_memory_mib: NonNegative = 128
    """Memory budget in MiB of an evaluation step. It sets the number of users and, if the scores
    of all items would leave room for few users, the number of items scored at a time
    (docs/large-data.md). 0: RecBole's own step size, from eval_batch_size."""

    negatives_exclude: Literal["target", "history"] = "target"
    """Items that sequential models never draw as training negatives: only the target (as RecBole
    does), or the user's whole training history (as the authors of PAD and LLM-ESR do)."""
    split_seed: PartOfProtocol[Annotated[int, Field(ge=0, lt=2**32)] | None] = None
    """Seed of a random split (eval_args: order RO), so that runs with different seeds share one
    split. None: the value of seed."""
    item_catalogue: PartOfProtocol[Literal["interactions", "item_file"]] = "interactions"
    """The items that training and evaluation rank: those with interactions (as in RecBole), or
    also all others of the .item file. A checkpoint keeps the items that it was trained with."""
    eval_candidates: PartOfProtocol[Literal["fixed", "drawn"]] = "fixed"
    """Negatives of sampled evaluation (eval_args: mode uniN or popN). 'fixed': a user has the same
    negatives in every evaluation, whatever the model and the seed, and none that the user had
    before the held-out item; 'drawn': new negatives each time, as in RecBole."""
    recommend_new_items: Flag = True
    """For models that know items by text: whether recommend also ranks further items of the .item
    file, and reads them in histories. It encodes those that have no vectors yet."""
    interactions: NoEffectOnResults[Literal["memory", "disk"]] = "memory"
    """'disk': a sequential model's interactions are sorted once into files beside the .inter file,
    and read from there, for data sets larger than memory (docs/large-data.md)."""
    sort_memory_mib: NoEffectOnResults[Annotated[int, Field(ge=128)]] = 1024
    """Memory in MiB for sorting interactions (interactions: disk)."""
    exact_times: PartOfProtocol[Flag] = True
    """Whether interactions are ordered and split by their exact times in the file; False: by
    RecBole's float32, in which Unix times within a minute or two can be equal."""

    @property
    def ranking_bytes(self) -> int:
        """Memory budget of a ranking step in bytes: the default if eval_memory_mib is 0."""
        return int((self.eval_memory_mib or EngineSettings().eval_memory_mib) * 2**20)

    def check(self, config: ConfigLike) -> None:
        """Check that the keys fit one another, the model and the data."""
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
        _check_transform(config)
        if self.train_level == "sequence":
            _check_sequence_level(config)
        if self.item_table == "sparse":
            _check_sparse(config)
        if self.interactions == "disk":
            self._check_disk(config)

    def _check_disk(self, config: ConfigLike) -> None:
        """Refuse keys and columns that need interactions in memory."""
        why = "is unavailable with interactions: disk, which keeps only users, items and times"
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


def _check_transform(config: ConfigLike) -> None:
    """Refuse a change of histories that the model does not read, or that lacks its share."""
    from recbole.utils import ModelType

    transform = str(config["transform"])
    if config["model"] == "BERT4Rec" and transform != "mask_itemseq":
        raise ValueError("transform: BERT4Rec learns masked items; leave it at mask_itemseq")
    if transform.endswith("_itemseq") and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise ValueError(
            f"transform: {transform} changes histories, and {config['model']} reads none; leave it "
            f"out"
        )
    share = _SHARES.get(transform)
    if share is not None and config[share] is None:
        raise ValueError(
            f"{share}: transform: {transform} needs this share of a history; set it, such as "
            f"--{share}=0.6"
        )


def _check_sequence_level(config: ConfigLike) -> None:
    if not supports_sequence_level(getattr(config, "model_class")):
        raise ValueError(
            f"train_level: sequence is for causal models with a loss at every position, and "
            f"'{config['model']}' is not one; set train_level: prefix"
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
    """Refuse what would touch all rows of the table in each step, and models in phases."""
    model = getattr(config, "model_class")
    if not supports_sequence_level(model) or model_traits.is_phased(model):
        raise ValueError(f"item_table: {config['model']} has no sparse item table; leave it dense")
    if config["loss_type"] == "CE":
        raise ValueError(
            "loss_type: CE scores every item for every target, and its gradient has a row for each "
            "item; with item_table: sparse, sample negatives: --loss_type=SSM "
            "--train_neg_sample_args=\"{'distribution': 'uniform', 'sample_num': 100}\""
        )
    learner = RecBoleTraining.of(config).learner
    if learner not in ("adam", "adamw"):
        raise ValueError(
            f"learner: with item_table: sparse, the table is trained by Adam, not by {learner}; "
            f"leave it at adam, or set item_table: dense"
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
    """Whether a model class trains on sequence rows, by ``user_states`` at every position."""
    return callable(getattr(model, "user_states", None))


@hookimpl
def register_settings(register: Callable[[str | type], None]) -> None:
    """Register the settings, which every run checks."""
    register(EngineSettings)

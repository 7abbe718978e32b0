"""RecBole's keys of the data set: types and ranges. Defaults are RecBole's."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from recbole_llm.core.marks import Mark, PartOfProtocol
from recbole_llm.core.settings import (
    ConfigLike,
    Count,
    FieldName,
    Flag,
    Names,
    OneOrMore,
    Settings,
    Text,
)

_NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|inf)"
_INTERVAL = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")


def _intervals(text: str) -> str:
    for part in text.split(";"):
        match = _INTERVAL.fullmatch(part.strip())
        if match is None or float(match[1]) > float(match[2]):
            raise ValueError(f"'{part}' is not an interval such as [5,inf) or (0,10]")
    return text


def _as_text(value: object) -> object:
    """Turn an interval that was parsed as a list, such as [5,100], back into a text."""
    return str(value) if isinstance(value, (list, tuple, int, float)) else value


def _kept(value: object) -> object:
    """An interval of numbers, or a list of tokens; the column's type decides which [1, 2] is."""
    try:
        return _intervals(str(value))
    except ValueError as error:
        if isinstance(value, (list, tuple)) and value:
            return [str(part) for part in value]
        raise ValueError(f"{error}; for a token column, list what to keep: ['a', 'b']") from None


def _buckets(fields: dict[str, dict[str, str | int]]) -> dict[str, dict[str, str | int]]:
    for field, how in fields.items():
        method, bucket = how.get("method"), how.get("bucket")
        if method not in ("ED", "LD"):
            raise ValueError(
                f"'{field}' has the method {method!r}; choose ED, buckets of equal width, or LD, "
                f"buckets of the logarithm"
            )
        if method == "ED" and not (isinstance(bucket, int) and bucket > 0):
            raise ValueError(
                f"'{field}' needs its number of buckets: {{'method': 'ED', 'bucket': 10}}"
            )
    return fields


Interval = Annotated[str, AfterValidator(_intervals), BeforeValidator(_as_text)]
Kept = Annotated[str | list[str], BeforeValidator(_kept)]
Buckets = Annotated[dict[str, dict[str, str | int]], AfterValidator(_buckets)]
Columns = dict[str, Names | Literal["*"]]
Fields = Annotated[list[FieldName], OneOrMore]


class RecBoleData(Settings):
    """RecBole's keys of the data set."""

    field_separator: Annotated[str, Field(min_length=1)] = "\t"
    """Separator of the columns of atomic files."""
    seq_separator: Annotated[str, Field(min_length=1)] = " "
    """Separator inside a sequence."""
    USER_ID_FIELD: PartOfProtocol[FieldName] = "user_id"
    """Field of users."""
    ITEM_ID_FIELD: PartOfProtocol[FieldName] = "item_id"
    """Field of items."""
    RATING_FIELD: PartOfProtocol[FieldName] = "rating"
    """Field of ratings."""
    TIME_FIELD: PartOfProtocol[FieldName] = "timestamp"
    """Field of times."""
    seq_len: dict[str, Count] | None = None
    """{sequence field: longest sequence}."""
    LABEL_FIELD: PartOfProtocol[FieldName] = "label"
    """Field of labels."""
    threshold: PartOfProtocol[
        Annotated[dict[str, float], Field(min_length=1, max_length=1)] | None
    ] = None
    """{field: value}; rows of at least that value have label 1, the others 0."""
    NEG_PREFIX: FieldName = "neg_"
    """Prefix of the fields of negatives."""
    numerical_features: Fields = []
    """Float fields that are embedded."""
    load_col: Columns | None = {"inter": ["user_id", "item_id"]}
    """{suffix of the file: columns to load}."""
    unload_col: Columns | None = None
    """{suffix of the file: columns not to load}."""
    unused_col: Columns | None = None
    """{suffix of the file: columns to load only for preparation}."""
    additional_feat_suffix: Annotated[Fields | None, Mark.FILE_SUFFIX] = None
    """Suffixes of further files."""
    rm_dup_inter: PartOfProtocol[Literal["first", "last"] | None] = None
    """Which of several interactions of a user with an item is kept."""
    val_interval: PartOfProtocol[dict[str, Kept] | None] = None
    """{field: values to keep}: an interval for a float column, a list for a token column."""
    filter_inter_by_user_or_item: PartOfProtocol[Flag] = True
    """Whether interactions with users or items that are missing from their files are removed."""
    user_inter_num_interval: PartOfProtocol[Interval | None] = "[0,inf)"
    """Numbers of interactions with which a user is kept."""
    item_inter_num_interval: PartOfProtocol[Interval | None] = "[0,inf)"
    """Numbers of interactions with which an item is kept."""
    alias_of_user_id: Fields | None = None
    """Fields that share the users' ids."""
    alias_of_item_id: Fields | None = None
    """Fields that share the items' ids."""
    alias_of_entity_id: Fields | None = None
    """Fields that share the entities' ids."""
    alias_of_relation_id: Fields | None = None
    """Fields that share the relations' ids."""
    preload_weight: dict[str, str] | None = None
    """{id field: field of its pre-trained vectors}."""
    normalize_field: Fields | None = None
    """Float fields that are scaled to 0..1."""
    normalize_all: Flag | None = None
    """Whether all float fields are scaled to 0..1."""
    discretization: Buckets | None = None
    """{float field: {method: ED or LD, bucket: number}}: how fields are cut into buckets."""
    ITEM_LIST_LENGTH_FIELD: FieldName = "item_length"
    """Field of the lengths of histories."""
    LIST_SUFFIX: FieldName = "_list"
    """Suffix of the fields of histories."""
    MAX_ITEM_LIST_LENGTH: Count = 50
    """Longest history, in items."""
    POSITION_FIELD: FieldName = "position_id"
    """Field of positions."""
    HEAD_ENTITY_ID_FIELD: FieldName = "head_id"
    """Field of head entities."""
    TAIL_ENTITY_ID_FIELD: FieldName = "tail_id"
    """Field of tail entities."""
    RELATION_ID_FIELD: FieldName = "relation_id"
    """Field of relations."""
    ENTITY_ID_FIELD: FieldName = "entity_id"
    """Field of entities."""
    kg_reverse_r: Flag = False
    """Whether each triple is also added in reverse."""
    entity_kg_num_interval: Interval | None = "[0,inf)"
    """Numbers of triples with which an entity is kept."""
    relation_kg_num_interval: Interval | None = "[0,inf)"
    """Numbers of triples with which a relation is kept."""
    benchmark_filename: Annotated[
        Annotated[Fields, Field(min_length=3, max_length=3)] | None,
        Mark.PART_OF_PROTOCOL | Mark.FILE_SUFFIX,
    ] = None
    """Suffixes of ready-made splits: of training, validation and test."""
    encoding: Text | None = None
    """Encoding of atomic files."""

    def check(self, config: ConfigLike) -> None:
        """Refuse keys that contradict each other, or that RecBole would silently ignore."""
        if self.normalize_all and self.normalize_field is not None:
            raise ValueError(
                "normalize_all: True scales the fields of normalize_field too; leave those out, or "
                "set --normalize_all=False"
            )
        both = set(self.load_col or ()) & set(self.unload_col or ())
        if both:
            raise ValueError(
                f"unload_col: load_col already says what is loaded of .{min(both)}; leave one out "
                f"(for all columns except some: --load_col=None with unload_col)"
            )
        if self.benchmark_filename is None:
            return
        counts = ("user_inter_num_interval", "item_inter_num_interval")
        for key in ("val_interval", "rm_dup_inter", *counts):
            if (value := getattr(self, key)) and value != "[0,inf)":
                raise ValueError(
                    f"{key}: has no effect on ready-made splits, which are read as they are; "
                    f"filter the files, or leave out {key} or benchmark_filename"
                )

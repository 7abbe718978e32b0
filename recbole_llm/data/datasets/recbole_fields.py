"""Attributes of RecBole's data sets that this package's parts of one read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole.utils import FeatureSource, FeatureType

from recbole_llm.core.config import Config


class RecBoleFields:
    """Attributes of RecBole's ``Dataset``, by type; its methods that are called, as Any."""

    config: Config
    logger: Any
    dataset_name: str
    inter_feat: Any
    user_feat: Any
    item_feat: Any
    feat_name_list: list[str]
    uid_field: str
    iid_field: str
    time_field: str
    alias: Mapping[str, Any]
    field2type: dict[str, FeatureType]
    field2source: dict[str, FeatureSource | str]
    field2seqlen: dict[str, int]
    field2bucketnum: dict[str, int]
    field2id_token: dict[str, Any]
    file_size_list: list[int]
    copy: Any
    field2feats: Any
    _calcu_split_ids: Any
    _concat_remaped_tokens: Any
    _del_col: Any
    _drop_unused_col: Any
    _get_load_and_unload_col: Any
    _parse_intervals_str: Any
    _within_intervals: Any

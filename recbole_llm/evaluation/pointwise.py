"""Metrics of single predictions: AUC, LogLoss and GAUC, over all rows and by group.

Rows are labeled interactions, or interactions and sampled negatives (uniN, popN). A group of
users or of items is evaluated over its own rows, positives and negatives alike: AUC of the tail
items measures how well the positives among their rows are separated from the negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator.base_metric import LossMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import LogLoss as StockLogLoss
from torch import Tensor

from recbole_llm.core.arrays import FloatArray, IntArray
from recbole_llm.core.config import Config
from recbole_llm.evaluation.by_user import ByUser, compute_user_aucs, evaluate_labels_by_user
from recbole_llm.evaluation.collector import BatchCollector
from recbole_llm.evaluation.group_metrics import EvaluatorByGroup
from recbole_llm.evaluation.groups import USERS, Group

ITEMS = "group.items"
ROWS = ("rec.score", "data.label", USERS, ITEMS)


class PointwiseCollector(BatchCollector):
    """Scores, labels, users and items of the evaluated rows."""

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Interaction, positive_u: Any, positive_i: Any
    ) -> None:
        """Collect a batch of rows: scores [B], and their users, items and labels."""
        self.check_groups()
        fields = (self.config[f"{name}_FIELD"] for name in ("LABEL", "USER_ID", "ITEM_ID"))
        columns = [scores_tensor, *(interaction[field] for field in fields)]
        for key, column in zip(ROWS, columns, strict=True):
            self.keep(key, column.view(-1))

    def eval_collect(self, eval_pred: Tensor, data_label: Tensor) -> None:
        """Collect all rows of a decision tree model, which gives neither users nor items."""
        asked = self.config["eval_groups"] or self.config["user_metrics"]
        if asked or "gauc" in self.register.metrics:
            raise ValueError(
                f"metrics, eval_groups, user_metrics: GAUC, groups and metrics by user need the "
                f"user of each prediction, which {self.config['model']} does not give; leave them "
                f"out"
            )
        for key, column in zip(ROWS, (eval_pred, data_label)):
            self.keep(key, torch.as_tensor(column).view(-1))

    def get_data_struct(self) -> DataStruct:
        """Return what was collected; ValueError for NaN scores, which RecBole's AUC ranks first."""
        collected = super().get_data_struct()
        if "rec.score" not in collected:  # a process without a batch
            return collected
        scores = collected.get("rec.score")
        if count := int(scores.isnan().sum()):
            raise ValueError(
                f"{count:,} of {len(scores):,} predictions are NaN: the model has diverged; lower "
                f"learning_rate"
            )
        return collected


class PointwiseEvaluator(EvaluatorByGroup):
    """Evaluator of metrics of single predictions, with GAUC.

    Keys of groups are ``auc (tail items)``, and ``rows (…)``, ``users (…)`` and ``items (…)`` for
    the numbers of rows, distinct users and distinct items. A group without rows, or with one class
    only, lacks the metrics that are then undefined.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if "gauc" in self.metric_class:
            self.metric_class["gauc"] = GAUC(config)  # RecBole's GAUC is for ranked lists
        if "logloss" in self.metric_class:
            self.metric_class["logloss"] = LogLoss(config)

    def _evaluate_group(self, group: Group, collected: DataStruct) -> dict[str, float]:
        chosen = group.members[collected.get(ITEMS if group.of_items else USERS)]
        rows = DataStruct()
        for key in ROWS:
            rows.set(key, collected.get(key)[chosen, None])  # a column, even of one row
        users, items = rows.get(USERS), rows.get(ITEMS)
        result: dict[str, float] = {
            "rows": len(users), "users": len(users.unique()), "items": len(items.unique())
        }  # fmt: skip
        for name, metric in self.metric_class.items():
            if isinstance(metric, LossMetric) and _has_value(name, rows):
                result.update(metric.calculate_metric(rows))
        return result

    def _evaluate_users(self, collected: DataStruct, columns: Mapping[str, FloatArray]) -> ByUser:
        keys = (USERS, ITEMS, "rec.score", "data.label")
        users, items, scores, labels = (collected.get(key).numpy() for key in keys)
        return evaluate_labels_by_user(users, items, scores, labels, list(self.metric_class))


class LogLoss(StockLogLoss):  # type: ignore[misc]
    """RecBole's LogLoss, also of a single row, at which it fails with numpy before 2.4."""

    def metric_info(self, preds: FloatArray, trues: IntArray) -> float:
        """LogLoss of predictions [R] and labels [R]."""
        # Before numpy 2.4, float64 makes a number of an array of one, but not of a list of one.
        return float(super().metric_info(preds if len(preds) > 1 else preds.tolist(), trues))


class GAUC(LossMetric):  # type: ignore[misc]
    """AUC of each user, averaged with users weighted by their rows (Zhu et al., KDD 2017; DIN).

    Users with one class only have no AUC and are left out. RecBole's metric of the same name is for
    rankings and cannot be combined with AUC; it weights users by their positives.
    """

    metric_need = [*LossMetric.metric_need, USERS]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.warned = False  # one warning, not one after each epoch

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """``{"gauc": …}``; nan, with a warning, if no user has both classes."""
        scores, labels = self.used_info(dataobject)
        value = compute_gauc(dataobject.get(USERS).view(-1).numpy(), scores, labels)
        if np.isnan(value) and not self.warned:
            self.warned = True
            getLogger().warning(
                "GAUC has no value: no user has rows of both classes; leave users several rows "
                "(eval_args: split), or sample negatives (eval_args: mode uni100)"
            )
        return {"gauc": round(value, self.decimal_place)}


def compute_gauc(users: IntArray, scores: Any, labels: Any) -> float:
    """Mean AUC of the users with both classes, weighted by their rows; nan without any."""
    _, aucs, sizes = compute_user_aucs(users, scores, labels)
    return float(np.average(aucs, weights=sizes)) if len(aucs) else float("nan")


def _has_value(metric: str, rows: DataStruct) -> bool:
    """Whether there are rows, for AUC with both classes, for GAUC with both classes of one user."""
    users, positive = rows.get(USERS), rows.get("data.label") == 1  # [R, 1] each
    if metric == "auc":
        return bool(positive.any() and not positive.all())
    if metric == "gauc":
        classes = torch.unique(torch.cat([users, positive], dim=1), dim=0)  # [pairs, 2]
        return len(classes) > len(torch.unique(users))
    return len(users) > 0

"""Building a sequential data set: time, and peak memory above the loaded interactions.

    python tests/benchmarks/bench_dataset.py --interactions 1000000 --length 50 --large 20000000

Both variants start from the same table of interactions in memory and run RecBole's
``dataset.build()``, which sorts, makes rows and splits leave-one-out. Only ours runs ``--large``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import harness


def main() -> None:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--mean-history", type=int, default=50)
    parser.add_argument("--large", type=int, default=20_000_000, help="0: leave it out")
    arguments = parser.parse_args()
    if arguments.child:
        sizes = (arguments.interactions, arguments.length, arguments.mean_history)
        harness.report(build(arguments.child, *sizes))
        return

    def sizes_of(interactions: int) -> list[str]:
        return [
            f"--interactions={interactions}", f"--length={arguments.length}",
            f"--mean-history={arguments.mean_history}",
        ]  # fmt: skip

    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    result["build"] = harness.compare(
        __file__, ["stock", "ours"], sizes_of(arguments.interactions), arguments.rounds
    )
    if arguments.large:
        result["large"] = harness.run_child(__file__, "ours", sizes_of(arguments.large))
    harness.write(result, arguments.out)


def build(variant: str, interactions: int, length: int, mean_history: int) -> dict[str, Any]:
    """Build once; return seconds, and the peak MiB above the loaded table."""
    from recbole_llm.core import compat

    compat.apply()
    dataset = _dataset(variant, interactions, length, mean_history)
    before = harness.reset_peak()
    start, cpu = time.perf_counter(), time.process_time()
    splits = dataset.build()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    above = harness.peak() - before
    raw = interactions * 3 * 8 / 2**20
    rows = [len(split) for split in splits]
    return {
        "seconds": seconds, "cpu_seconds": cpu, "mib_above_raw": above, "raw_mib": raw,
        "rows": rows,
    }  # fmt: skip


def _dataset(variant: str, interactions: int, length: int, mean_history: int) -> Any:
    """RecBole's or our data set with a generated table, as if it had been loaded from a file."""
    import numpy as np
    import pandas as pd
    from recbole.data.dataset import SequentialDataset as RecBoleDataset
    from recbole.utils import FeatureSource, FeatureType

    from recbole_llm.core.config import Config
    from recbole_llm.data.datasets.sequence import SequentialDataset

    base = {"stock": RecBoleDataset, "ours": SequentialDataset}[variant]

    class Generated(base):  # type: ignore[misc, valid-type]
        def _from_scratch(self) -> None:
            self._get_preset()
            self._get_field_from_config()
            rng = np.random.default_rng(0)
            n_users, n_items = max(interactions // mean_history, 1), 20_000
            self.inter_feat = pd.DataFrame({
                "user_id": rng.integers(1, n_users + 1, interactions),
                "item_id": rng.integers(1, n_items, interactions),
                "timestamp": rng.integers(0, 10**9, interactions).astype(np.float64),
            })  # fmt: skip
            for field, size in (("user_id", n_users + 1), ("item_id", n_items)):
                self.set_field_property(field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
                self.field2id_token[field] = np.arange(size)
            self.set_field_property("timestamp", FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
            self.user_feat = self.item_feat = None
            self.feat_name_list = ["inter_feat"]

    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    settings = {"MAX_ITEM_LIST_LENGTH": length, "eval_args": args}
    return Generated(Config("SASRec", "ml-100k", config_dict=settings))


if __name__ == "__main__":
    sys.exit(main())

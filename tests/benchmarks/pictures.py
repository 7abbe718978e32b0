"""A check that pictures are used: in its data set, pictures carry the signal and texts do not.

Items are the emoji of npm's ``emoji-datasource-twitter``, which are real pictures. Histories are
generated: a user likes two kinds of emoji (subcategories such as mammals or flags), and nine of ten
items are of these kinds. Texts are random words. The three runs use vectors of texts, of pictures,
and of pictures that were shuffled among the items.

    npm pack emoji-datasource-twitter@16.0.0 && tar xzf emoji-datasource-twitter-16.0.0.tgz
    python tests/benchmarks/pictures.py --emoji=package --out=pictures.json [-- --key=value …]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm import run_recbole_llm

SEED, USERS, KINDS, LENGTH, NOISE = 0, 2000, 2, 10, 0.1
SMALLEST = 10  # emoji; smaller kinds are left out
Emoji = list[dict[str, Any]]


def write(emoji: Path, folder: Path) -> None:
    """Write the data set ``emoji``, and ``shuffled``, whose pictures are shuffled among items."""
    rng = np.random.default_rng(SEED)
    listed: Emoji = json.loads((emoji / "emoji.json").read_text(encoding="utf-8"))
    kinds: dict[str, Emoji] = {}
    for one in listed:
        if (emoji / "img/twitter/64" / one["image"]).is_file():
            kinds.setdefault(one["subcategory"], []).append(one)
    kinds = {kind: own for kind, own in kinds.items() if len(own) >= SMALLEST}
    items = [one for own in kinds.values() for one in own]
    names = {one["image"]: f"i{number}" for number, one in enumerate(items)}
    rows = _histories(rng, [[names[one["image"]] for one in own] for own in kinds.values()])
    words = [" ".join(rng.choice(_words(), 4)) for _ in items]
    for name, order in (("emoji", range(len(items))), ("shuffled", rng.permutation(len(items)))):
        target = folder / name
        (target / "images").mkdir(parents=True)
        for token, number in zip(names.values(), order, strict=True):
            source = emoji / "img/twitter/64" / items[number]["image"]
            shutil.copy(source, target / "images" / f"{token}.png")
        header = "item_id:token\ttitle:token_seq"
        lines = [f"{token}\t{text}" for token, text in zip(names.values(), words, strict=True)]
        (target / f"{name}.item").write_text("\n".join([header, *lines]) + "\n")
        header = "user_id:token\titem_id:token\ttimestamp:float"
        (target / f"{name}.inter").write_text("\n".join([header, *rows]) + "\n")
    print(f"{len(items)} emoji of {len(kinds)} kinds, {len(rows)} interactions")


def _histories(rng: np.random.Generator, kinds: list[list[str]]) -> list[str]:
    everything = [token for own in kinds for token in own]
    rows = []
    for user in range(USERS):
        liked = [t for kind in rng.choice(len(kinds), KINDS, replace=False) for t in kinds[kind]]
        for step in range(LENGTH):
            token = rng.choice(everything if rng.random() < NOISE else liked)
            rows.append(f"u{user}\t{token}\t{step}")
    return rows


def _words() -> list[str]:
    return [a + b for a in ("ka", "mo", "li", "se", "tu") for b in ("rin", "bos", "lem", "dap")]


RUNS = {
    "texts": ("emoji", {"encoder": "bundled"}),
    "pictures": ("emoji", {"encoder": "image", "item_feature": "item_image"}),
    "pictures, shuffled": ("shuffled", {"encoder": "image", "item_feature": "item_image"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emoji", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("arguments", nargs="*", help="keys of every run")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        write(options.emoji, Path(folder))
        for name, (dataset, keys) in RUNS.items():
            settings = {"data_path": folder, "show_progress": False, **keys}
            result = run_recbole_llm(
                "Molar", dataset, config_dict=settings, argv=options.arguments, saved=False
            )
            results[name] = {k: result[k] for k in ("best_valid_result", "test_result")}
            options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
            print(name, result["test_result"], flush=True)


if __name__ == "__main__":
    main()

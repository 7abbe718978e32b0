"""Text queries of AlphaRec on ml-100k: precision at 10 against the genres that a reader expects.

    python tests/benchmarks/queries.py --output result.json [--whitening 0 0.75] [--seeds 2020 2021]

A recommended film is right if it has one of the query's genres. "raw" ranks by the cosine of the
query's vector and the item texts' vectors; the others are models trained as `run` does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

QUERIES = {
    "science fiction in space": "Sci-Fi",
    "a film about robots and the future": "Sci-Fi",
    "aliens attack the earth": "Sci-Fi",
    "a romantic love story": "Romance",
    "two people fall in love in Paris": "Romance",
    "a funny comedy to laugh at": "Comedy",
    "slapstick humour": "Comedy",
    "scary horror with monsters": "Horror",
    "vampires and ghosts": "Horror",
    "a haunted house": "Horror",
    "soldiers in the second world war": "War",
    "the Vietnam war": "War",
    "cowboys in the wild west": "Western",
    "a western with gunfighters": "Western",
    "an animated cartoon": "Animation",
    "animation for the family": "Animation Children's",
    "a Disney film for children": "Children's Animation",
    "something for kids": "Children's",
    "a musical with songs and dancing": "Musical",
    "a documentary about real people": "Documentary",
    "film noir detective": "Film-Noir Mystery",
    "a murder mystery": "Mystery Crime Thriller",
    "who is the killer": "Mystery Crime Thriller",
    "gangsters and the mafia": "Crime",
    "an action film with explosions": "Action",
    "martial arts fights": "Action",
    "a treasure hunt and adventure": "Adventure",
    "pirates on the sea": "Adventure Action",
    "a suspenseful thriller": "Thriller",
    "a serious drama about family life": "Drama",
}


def main() -> None:
    """Train, ask, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="queries.json")
    parser.add_argument("--whitening", type=float, nargs="+", default=[0.0, 0.75])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020])
    arguments = parser.parse_args()
    rows = [measure(power, seed) for power in arguments.whitening for seed in arguments.seeds]
    Path(arguments.output).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(power: float, seed: int) -> dict[str, Any]:
    """Validation and test quality, and the precision of the queries."""
    import recbole_llm

    keys = {"text_whitening": power, "seed": seed, "state": "ERROR", "show_progress": False}
    done = recbole_llm.run_recbole_llm("AlphaRec", "ml-100k", config_dict=keys)
    source = recbole_llm.Recommender.of(done["checkpoint"])
    genres = dict(zip(map(str, source.item_tokens), map(str.split, source.fields["class"])))
    table = recbole_llm.features_of(source.dataset, source.config)["item_text"].matrix
    found = {
        "text_whitening": power,
        "seed": seed,
        "valid": done["best_valid_result"]["ndcg@10"],
        "test": done["test_result"]["ndcg@10"],
        "precision": mean(genres, lambda q: list(source.recommend(query=q, k=10)["item"])),
        "raw": mean(genres, lambda q: raw(source, table, q)),
    }
    print(found, flush=True)
    return found


def mean(genres: dict[str, list[str]], answer: Any) -> float:
    """Precision at 10, averaged over the queries."""
    right = [
        np.mean([bool({*genres[item]} & {*wanted.split()}) for item in answer(query)])
        for query, wanted in QUERIES.items()
    ]
    return round(float(np.mean(right)), 3)


def raw(source: Any, table: Any, query: str) -> list[str]:
    """The ten items whose texts are nearest to the query."""
    from recbole_llm.tasks.recommend import _encode

    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    best = np.argsort(-(unit @ _encode(source.config, query)))[:10]
    return [str(token) for token in source.item_tokens[best]]


if __name__ == "__main__":
    main()

"""Text queries of AlphaRec on ml-100k: precision at 10 against the genres that a reader expects.

    python tests/benchmarks/queries.py --whitening 0.75 --epochs 15

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


# (query_neighbors, query_text_share): the first pair is the authors', (10, 0.5) the default.
CHOICES = [(0, 0.0), (10, 0.0), (50, 0.0), (0, 0.5), (10, 0.3), (10, 0.5), (10, 0.7), (50, 0.5)]


def main() -> None:
    """Train, ask, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="queries.json")
    parser.add_argument("--whitening", type=float, nargs="+", default=[0.0, 0.75])
    parser.add_argument("--epochs", type=int, default=300)
    arguments = parser.parse_args()
    rows = [measure(power, arguments.epochs) for power in arguments.whitening]
    Path(arguments.output).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(power: float, epochs: int) -> dict[str, Any]:
    """Validation and test quality, and the precision of the queries by choice."""
    import recbole_llm

    keys = {"text_whitening": power, "epochs": epochs, "state": "ERROR", "show_progress": False}
    done = recbole_llm.run_recbole_llm("AlphaRec", "ml-100k", config_dict=keys)
    source = recbole_llm.Recommender.of(done["checkpoint"])
    model: Any = source.scorer.model
    genres = dict(zip(map(str, source.item_tokens), map(str.split, source.fields["class"])))
    found: dict[str, Any] = {
        "text_whitening": power,
        "valid": done["best_valid_result"]["ndcg@10"],
        "test": done["test_result"]["ndcg@10"],
        "raw": mean(genres, lambda query: raw(source, model.text.weight.numpy(), query)),
    }
    for neighbors, share in CHOICES:
        model.query_neighbors, model.query_share = neighbors, share
        found[f"{neighbors}, {share:g}"] = mean(
            genres, lambda query: list(source.recommend(query=query, k=10)["item"])
        )
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
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    best = np.argsort(-(unit @ source.encode(query).numpy()))[:10]
    return [str(token) for token in source.item_tokens[best]]


if __name__ == "__main__":
    main()

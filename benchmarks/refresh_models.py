"""Looks up what Hugging Face has of the models in the catalog, and writes the sizes of the files into it.

    python -m benchmarks.refresh_models [--write]

Headers only are read, some MiB each. What the card's dimensions do not agree with is told, and so is what is gone.
Without `--write` nothing is changed. HF_ENDPOINT names another server than huggingface.co.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.core.errors import ModelError
from edgetop.fit import model_facts
from edgetop.fit.model_facts import PublishedModel, published_models
from edgetop.fit.remote_model import fetch_facts

TABLE = Path(model_facts.__file__).with_name("models.csv")


def sizes_of(model: PublishedModel) -> dict[str, int]:
    """Bytes of each quantization that the repository has, and a line for each that is not as the catalog says."""
    found = {}
    for label in model.quantizations:
        try:
            facts = fetch_facts(model.reference(label))
        except ModelError as error:
            print(f"{model.name} {label}: {error.what}")
            continue
        expected = model.facts(label)
        if (facts.architecture, facts.n_layer, facts.n_embd) != (
            expected.architecture,
            expected.n_layer,
            expected.n_embd,
        ):
            print(
                f"{model.name} {label}: {facts.architecture}, {facts.n_layer} layers of {facts.n_embd}: not as listed"
            )
            continue
        off = facts.tensor_bytes / expected.tensor_bytes - 1
        print(f"{model.name} {label}: {facts.size_bytes} bytes, weights {off:+.1%} of what is computed")
        found[label] = facts.size_bytes
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the sizes into the catalog")
    arguments = parser.parse_args()
    rows = []
    for model in published_models():
        known = {**model.stated, **sizes_of(model)}
        rows.append({**model.row, "sizes": " ".join(f"{label}={size}" for label, size in known.items())})
    if arguments.write:
        with TABLE.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    run_benchmark(main)

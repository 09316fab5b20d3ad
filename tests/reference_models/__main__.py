"""``python -m tests.reference_models train [NAME ...]`` and ``... table``."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import torch

from tests.reference_models import MODELS, card_path, weights_path
from tests.reference_models.table import write_table
from tests.reference_models.trained import store


@click.group()
def main() -> None:
    """Reference models: train them again, or write the table of their cards."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=0, help="Threads of torch; 0 leaves its own choice.")
@click.option(
    "--into", type=click.Path(path_type=Path), help="Folder for a rerun; without it the files here are replaced."
)
def train(names: tuple[str, ...], seed: int, threads: int, into: Path | None) -> None:
    """Trains the named models, or all, and writes weights and cards."""
    if threads:
        torch.set_num_threads(threads)
    for name in names or MODELS:
        print(f"{name}, seed {seed}", flush=True)
        trained = importlib.import_module(f"tests.reference_models.{MODELS[name].folder}.train").train(name, seed)
        weights, card = weights_path(name), card_path(name)
        if into is not None:
            into.mkdir(parents=True, exist_ok=True)
            weights, card = into / weights.name, into / card.name
        print(store(name, trained, weights, card).figures, flush=True)
    if into is None:
        write_table()


@main.command()
def table() -> None:
    """Writes README.md from the cards."""
    write_table()


if __name__ == "__main__":
    main()

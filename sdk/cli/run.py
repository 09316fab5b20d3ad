"""``edgewright run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from edgewright_runtime.session import Session

from .output import json_option, print_json


@click.command("run")
@click.argument("bundle", type=click.Path())
@click.argument("inputs", nargs=-1, type=click.Path())
@click.option("--threads", type=int, help="Default: what the bundle says.")
@click.option("-o", "--output", type=click.Path(), help="Write the outputs to this .npz file.")
@json_option
def command(bundle: str, inputs: tuple[str, ...], threads: int | None, output: str | None, as_json: bool) -> None:
    """Run BUNDLE on photos, on one .npz file of named inputs, or on one .npy file an input.

    Without INPUTS it runs once on random values of the declared shapes.
    """
    import sdk

    with sdk.load(bundle, threads=threads) as session:
        photos = [path for path in inputs if Path(path).suffix.lower() not in (".npy", ".npz")]
        if photos and len(photos) == len(inputs):
            _classify(session, photos, as_json)
            return
        results = session.run(_arrays(session, inputs))
    if output:
        np.savez(output, **results)
    shown = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in results.items()}
    if as_json:
        print_json(shown)
    else:
        for name, array in results.items():
            click.echo(f"{name}: {array.dtype}{list(array.shape)} {_range(array)}")


def _classify(session: Any, photos: list[str], as_json: bool) -> None:
    answers = {path: session.classify(path) for path in photos}
    if as_json:
        print_json({p: [{"index": r.index, "label": r.label, "score": r.score} for r in a] for p, a in answers.items()})
        return
    for path, answer in answers.items():
        click.echo(path)
        for row in answer:
            click.echo(f"  {row.score:8.4f}  {row.label}")


def _arrays(session: Session, paths: tuple[str, ...]) -> dict[str, np.ndarray]:
    from device_profiles.errors import InputError

    if not paths:
        return session.sample_inputs()
    try:
        if len(paths) == 1 and paths[0].endswith(".npz"):
            with np.load(paths[0]) as file:
                return dict(file)
        arrays = [np.load(path) for path in paths]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the inputs {', '.join(paths)}: {error}") from error
    if len(arrays) != len(session.inputs):
        raise InputError(f"{len(arrays)} inputs are given, the model takes {', '.join(map(str, session.inputs))}")
    return {spec.name: array for spec, array in zip(session.inputs, arrays, strict=True)}


def _range(array: np.ndarray) -> str:
    return f"min {array.min():.6g} max {array.max():.6g}" if array.size else "empty"

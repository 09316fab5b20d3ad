"""``edgewright bench``."""

from __future__ import annotations

from pathlib import Path

import click

from device_profiles.errors import OptionError
from device_profiles.record import unstructure

from .output import json_option, print_json, print_table


@click.group("bench")
def command() -> None:
    """Time models against each other in one run."""


@command.command("model")
@click.argument("bundles", nargs=-1, required=True, type=click.Path())
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--samples", type=int, default=50, show_default=True, help="At least so many of each.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="At least so long for each.")
@click.option("-o", "--output", type=click.Path(), help="Write the result with all samples as JSON.")
@click.option("--save", is_flag=True, help="Also keep each measurement beside its bundle.")
@json_option
def model(
    bundles: tuple[str, ...],
    threads: int,
    samples: int,
    seconds: float,
    output: str | None,
    save: bool,
    as_json: bool,
) -> None:
    """Time BUNDLES on this machine, interleaved A B A B, on the same random inputs.

    The first bundle is the base of the ratios (ratio of medians, 95 % bootstrap interval).
    """
    from ..benchmark import bench_models, save_measurements, write_result

    if samples < 1 or seconds < 0 or threads < 1:
        raise OptionError("--samples and --threads take positive numbers, --seconds one that is not negative")
    result = bench_models([Path(b) for b in bundles], threads, samples, seconds)
    if output:
        write_result(result, Path(output))
    if save:
        save_measurements(result)
    if as_json:
        print_json(unstructure(result))
        return
    columns = ("bundle", "engine", "threads", "min ms", "median ms", "p90 ms", "n", "ratio", "95 % interval")
    print_table(columns, (_row(row) for row in result.rows))
    click.echo(f"kind measured, this machine: {result.machine['processor']}, load {result.machine['load']}")


def _row(row: object) -> tuple[str, ...]:
    from ..benchmark import BenchRow

    assert isinstance(row, BenchRow)
    times = (f"{value * 1e3:.3f}" for value in (row.min_s, row.median_s, row.p90_s))
    interval = f"{row.ratio_low:.3f} to {row.ratio_high:.3f}"
    count = str(len(row.measurement.samples_s))
    engine = f"{row.measurement.engine} {row.measurement.engine_version}"
    return (row.name, engine, str(row.measurement.threads), *times, count, f"{row.ratio:.3f}", interval)

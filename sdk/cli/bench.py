"""``edgewright bench``."""

from __future__ import annotations

from pathlib import Path

import click

from device_profiles.errors import OptionError
from device_profiles.record import unstructure

from .output import json_option, print_json, print_table

_SWEEP = (0.2, 0.4, 0.6, 0.8, 0.9)
"""Shares of zeros of a report."""


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


class _WithShapes(click.Command):
    """Ends its help with the names of our shape files."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from ..kernel_benchmark import read_shapes, shape_names

        with formatter.section("Shapes"):
            formatter.write_dl([(name, read_shapes(name).network) for name in shape_names()])


@command.command("kernels", cls=_WithShapes)
@click.option(
    "--shapes",
    multiple=True,
    metavar="NAME_OR_FILE",
    help="Shapes of a network, see below, or a .toml file; again for more.  [default: mobilenet_v1]",
)
@click.option("--isa", multiple=True, help="Instruction set; again for more.  [default: every usable one but scalar]")
@click.option("--dtype", multiple=True, help="f32 or s8; again for more.  [default: all]")
@click.option(
    "--sparsity", type=float, multiple=True, help="Time sparse products too, with such a share of zeros; again for more."
)
@click.option(
    "--seconds", type=float, default=0.05, show_default=True, help="At least so long for each kernel and shape."
)
@click.option("-o", "--output", type=click.Path(), help="Write the result as JSON.")
@click.option(
    "--report",
    type=click.Path(),
    help="Write time against zeros, with the dense kernel and where it is reached, as an HTML file.  "
    "[defaults then: --dtype f32, --sparsity 0.2, 0.4, 0.6, 0.8 and 0.9]",
)
@json_option
def kernels(
    shapes: tuple[str, ...],
    isa: tuple[str, ...],
    dtype: tuple[str, ...],
    sparsity: tuple[float, ...],
    seconds: float,
    output: str | None,
    report: str | None,
    as_json: bool,
) -> None:
    """Time the kernels of the native engine on this machine, one thread, those of a shape interleaved A B A B.

    An operation is a multiplication or an addition.  A ratio is over the time of the scalar kernel of the same dtype,
    where that is timed too (ratio of medians, 95 % bootstrap interval).  Of a sparse kernel, operations are those of the
    dense product, and "x dense" is how many times as fast it is as the dense kernel of the same instruction set.
    """
    from ..kernel_benchmark import bench_kernels, write_result

    if seconds < 0:
        raise OptionError("--seconds takes a number that is not negative")
    if report:
        dtype, sparsity = dtype or ("f32",), sparsity or _SWEEP
    result = bench_kernels(shapes, isa, seconds, dtype, sparsity)
    if output:
        write_result(result, Path(output))
    if report:
        from ..report.kernels import write_kernel_report

        write_kernel_report(result, Path(report))
    if as_json:
        print_json(unstructure(result))
        return
    compared = any(row.ratio is not None for row in result.rows)
    columns = ("network", "shape", "kernel", "p10 us", "median us", "p90 us", "n", "GOP/s", "calling us")
    ratios = ("ratio", "95 % interval") if compared else ()
    sparse = ("zeros", "x dense", "95 % interval") if sparsity else ()
    print_table((*columns, *ratios, *sparse), (_kernel_row(row, bool(sparsity)) for row in result.rows))
    click.echo(f"kind measured, this machine: {result.machine['processor']}, load {result.machine['load']}, 1 thread")
    if report:
        click.echo(report)


def _kernel_row(row: object, sparse: bool) -> tuple[str, ...]:
    from ..kernel_benchmark import KernelTiming

    assert isinstance(row, KernelTiming)
    times = (f"{value * 1e6:.1f}" for value in (row.p10_s, row.median_s, row.p90_s))
    speed, calling = f"{row.operations_per_s / 1e9:.1f}", f"{row.calling_s * 1e6:.1f}"
    spread = () if row.ratio is None else (f"{row.ratio:.3g}", f"{row.ratio_low:.3g} to {row.ratio_high:.3g}")
    fixed = (row.network, row.shape.name, row.kernel, *times, str(row.samples), speed, calling, *spread)
    if not sparse:
        return fixed
    if row.sparsity is None or not (row.over_dense and row.over_dense_low and row.over_dense_high):
        return (*fixed, "", "", "")
    interval = f"{1 / row.over_dense_high:.2f} to {1 / row.over_dense_low:.2f}"
    return (*fixed, f"{row.sparsity:.0%}", f"{1 / row.over_dense:.2f}", interval)


def _row(row: object) -> tuple[str, ...]:
    from ..benchmark import BenchRow

    assert isinstance(row, BenchRow)
    times = (f"{value * 1e3:.3f}" for value in (row.min_s, row.median_s, row.p90_s))
    interval = f"{row.ratio_low:.3f} to {row.ratio_high:.3f}"
    count = str(len(row.measurement.samples_s))
    engine = f"{row.measurement.engine} {row.measurement.engine_version}"
    return (row.name, engine, str(row.measurement.threads), *times, count, f"{row.ratio:.3f}", interval)

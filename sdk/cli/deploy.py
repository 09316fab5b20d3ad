"""``edgewright deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..deploy.address import parse_address, remote_folder
from ..deploy.folder import bundle_name, deploy_folder
from ..deploy.measurement import check_saveable, save_measurement
from ..deploy.onto_board import deploy_board
from ..deploy.ssh import Link
from .output import json_option, print_json


@click.command("deploy")
@click.argument("bundle", type=click.Path())
@click.option("--to", "output", type=click.Path(), help="Write a folder to copy to the board yourself.")
@click.option("--board", metavar="ssh://USER@HOST[:PORT]", help="Copy to a board, verify, run and time it there.")
@click.option("--identity", type=click.Path(), help="Private key for --board; default: what ssh itself uses.")
@click.option("--photo", "photos", type=click.Path(), multiple=True, help="With --board: classify it; repeatable.")
@click.option("--dir", "folder", help="With --board: where to; default: ~/edgewright-bundles/NAME.")
@click.option("--install/--no-install", default=None, help="With --board: run install.sh there; default: no.")
@click.option("--threads", type=click.IntRange(1), help="With --board: threads of the engine.")
@click.option("--quick", is_flag=True, help="With --board: 10 samples instead of 50 and one second.")
@click.option("--save", is_flag=True, help="With --board: keep the measurement beside the bundle's core.")
@json_option
def command(bundle: str, output: str | None, board: str | None, as_json: bool, **options: Any) -> None:
    """Copy a bundle to a folder or a board, ready to run.

    A bundle for the native engine takes its library along, which is built first: some minutes. For a browser, --to
    writes what a web server serves: page, engine and model.

    EDGEWRIGHT_SSH replaces the ssh command, for example by "ssh -F my-config".
    """
    if (output is None) == (board is None):
        raise click.UsageError("give either --to DIR or --board ssh://user@host")
    if board is None:
        _refuse(options)
        _to_folder(Path(bundle), Path(str(output)), as_json)
    else:
        _to_board(Path(bundle), board, as_json, **options)


def _refuse(options: dict[str, Any]) -> None:
    names = {"folder": "dir", "photos": "photo"}
    unset = {"quick": False, "save": False, "photos": ()}
    given = [f"--{names.get(name, name)}" for name, value in options.items() if value != unset.get(name)]
    if given:
        raise click.UsageError(f"{', '.join(given)} only go with --board")


def _to_folder(bundle: Path, output: Path, as_json: bool) -> None:
    done = deploy_folder(bundle, output)
    told = {
        "path": str(output),
        "bundle": done.bundle,
        "manifest_sha256": done.sha256,
        "device": done.needs.profile.id,
        "engine": done.needs.engine,
        "install": done.needs.command,
        "bytes": done.bytes,
    }
    if as_json:
        print_json(told)
        return
    click.echo(f"{output}: {done.bundle} for {told['device']}, {done.bytes} bytes, every hash checked")
    if done.needs.profile.kind == "browser":
        click.echo(f"any web server serves it: python3 -m http.server --directory {output} 8000")
        return
    click.echo(f"the board needs: {done.needs.command}")
    click.echo("copy the folder there, then: sh install.sh; sh run.sh photo.jpg")


def _to_board(
    bundle: Path,
    board: str,
    as_json: bool,
    *,
    identity: str | None,
    photos: tuple[str, ...],
    folder: str | None,
    install: bool | None,
    threads: int | None,
    quick: bool,
    save: bool,
) -> None:
    link = Link(parse_address(board), Path(identity) if identity else None)
    where = remote_folder(
        folder if folder is not None else f"edgewright-bundles/{bundle_name(bundle).removesuffix('.edge')}"
    )
    if save:
        check_saveable(bundle)
    told = deploy_board(
        bundle,
        link,
        where,
        photos=[Path(photo) for photo in photos],
        install=bool(install),
        options=[*(["--quick"] if quick else []), *(["--threads", str(threads)] if threads else [])],
        progress=(lambda line: None) if as_json else click.echo,
    )
    saved = save_measurement(told, bundle) if save else None
    if as_json:
        print_json({**told, "saved": str(saved) if saved else None})
    else:
        _print(told, saved)


def _print(told: dict[str, Any], saved: Path | None) -> None:
    for warning in told["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    for result in told["results"]:
        click.echo(result["input"])
        for place, guess in enumerate(result.get("top", ()), 1):
            score = "nan" if guess["score"] is None else f"{guess['score']:.4f}"
            click.echo(f"  {place}  {guess['label']}  {score}")
    timing, machine = told["timing"], told["machine"]
    numbers = ", ".join(f"{key} {timing[f'{key}_s'] * 1e3:.3f} ms" for key in ("median", "p90", "min"))
    engine = f"{told['engine']} {told['engine_version']}"
    where = machine["model"] or machine["processor"]
    click.echo(f"{numbers}, n {timing['n']}, {told['threads']} threads, {engine}; {timing['kind']} on {where}")
    if saved:
        click.echo(f"saved: {saved}")

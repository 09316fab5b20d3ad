"""The command ``edgewright``.  One file a verb, one line in :data:`VERBS`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from device_profiles.errors import EdgewrightError

VERBS = {
    "bench": "Time kernels and models against their peers.",
    "build-runtime": "Build the native engine for another platform.",
    "check": "Say what keeps a model from each target.",
    "deploy": "Copy a bundle to a folder or a board, ready to run.",
    "devices": "List and filter the known devices.",
    "doctor": "Say what is installed and what each missing piece would enable.",
    "export": "Export a model for a device.",
    "pack": "Pack a bundle into one file.",
    "pack-weights": "Add weights as the native engine's kernels read them.",
    "report": "Write a bundle's report as one HTML file.",
    "run": "Run a bundle on photos or arrays.",
    "verify": "Check every hash of a bundle.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"{__name__}.{name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(VERBS))}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgewright")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def root(debug: bool) -> None:
    """Edgewright: one call exports a PyTorch model for a named edge board."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: exit code 0, 2 for wrong usage, 1 with the error on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(root.main(arguments, prog_name="edgewright", standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("edgewright: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except EdgewrightError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"edgewright: {type(error).__name__}: {error}", err=True)
        sys.exit(1)

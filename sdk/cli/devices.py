"""``edgewright devices``."""

from __future__ import annotations

import click

from device_profiles import Accelerator, DeviceProfile, EngineRow
from device_profiles.record import unstructure

from .output import json_option, print_json, print_table


@click.command("devices")
@click.argument("text", required=False)
@click.option("--kind", type=click.Choice(["board", "phone", "browser", "pc"]))
@click.option("--feature", help="CPU feature by its Linux hwcap name, for example asimddp.")
@click.option("--engine", help="An engine that runs there.")
@json_option
def command(text: str | None, kind: str | None, feature: str | None, engine: str | None, as_json: bool) -> None:
    """List devices; TEXT filters by id, name, alias, SoC or core."""
    import sdk

    found = [p for p in sdk.devices() if _matches(p, text, kind, feature, engine)]
    if as_json:
        print_json([unstructure(profile) for profile in found])
        return
    if not found:
        if text:
            sdk.device(text)
        click.echo("no device matches", err=True)
        return
    print_table(("id", "cores", "memory", "runs", "export only", "present, not used"), map(_row, found))


def _matches(p: DeviceProfile, text: str | None, kind: str | None, feature: str | None, engine: str | None) -> bool:
    words = " ".join((p.id, p.name, p.soc, *p.aliases, *(group.core for group in p.core_groups))).lower()
    return (
        (not text or text.lower() in words)
        and (not kind or p.kind == kind)
        and (not feature or feature in p.features)
        and (not engine or any(row.name == engine and row.status == "runs" for row in p.engines))
    )


def _row(profile: DeviceProfile) -> tuple[str, ...]:
    rows: list[EngineRow | Accelerator] = [*profile.engines, *profile.accelerators]
    by_status = {
        s: ", ".join(r.name for r in rows if r.status == s) or "-" for s in ("runs", "export-only", "not-used")
    }
    cores = " + ".join(f"{g.count}x {g.core}{_clock(g.clock_hz)}" for g in profile.core_groups)
    sizes = "/".join(f"{size / 2**30:.3g}" for size in profile.memory.dram_bytes)
    return (profile.id, cores, f"{sizes} GiB" if sizes else "-", *by_status.values())


def _clock(hz: int) -> str:
    return f" {hz / 1e9:.2g} GHz" if hz else ""

"""Quality of sparse models: ``python -m tests.sparsity.quality NAME ...``.

Each recipe goes through ``sdk.export`` and its files are evaluated on all of a case's data (``tests/quantization/cases.py``).  One
result file a case lies in ``results/``; the table is in the README of the method.  What a recipe begins with is trained once.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import click
import torch

import sdk
from edgewright_export.build import plain_method
from edgewright_export.state import Context, State
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import PACKAGES, current_commit
from tests.native import readme
from tests.quantization.benchmark import first_output, without_gradients
from tests.quantization.cases import CASES, Case

RESULTS = Path(__file__).parent / "results"
README = readme.ROOT / "export/edgewright_export/methods/sparsity/README.md"


@dataclass(frozen=True)
class Once(sdk.methods.WeightSparsity):
    """Trained when it is first applied; every case has one module."""

    found: ClassVar[dict[str, State]] = {}

    def apply(self, state: State, ctx: Context) -> State:
        """As what was found."""
        if repr(self) not in self.found:
            self.found[repr(self)] = super().apply(state, ctx)
        known = self.found[repr(self)]
        return replace(
            state, module=known.module, sparse=known.sparse, subgraph=known.subgraph, changes=known.changes, captured=None
        )


_LONG: dict[str, Any] = {"steps": 9000, "learning_rate": 4e-3, "allocation": "uniform"}
_MOST: dict[str, Any] = {"steps": 6000, "learning_rate": 3e-3, "allocation": "weights"}
_PAIRS = Once(pattern="2:4", steps=600, learning_rate=3e-4, allocation="uniform")
_QAT = sdk.methods.QAT(steps=200, even_if_slower=True)
_PTQ = sdk.methods.PTQ(smooth=True, reconstruct=200, even_if_slower=True)
_LESS = Once(0.3, allocation="macs", steps=0), Once(0.5, pattern="unstructured", steps=0)
"""What less than half of blocks costs, and single weights, before anything is learned."""
RECIPES: dict[str, list[tuple[Any, ...]]] = {
    "mobilenet_v1_fmnist": [
        *((Once(0.8, **_LONG), *more) for more in ((), (_QAT,))),
        *((Once(0.9, **_MOST), *more) for more in ((), (_QAT,))),
    ],
    "vit_fmnist": [(_PAIRS,), (_PAIRS, _QAT)],
    "efficientnet_lite0_more": [(Once(0.5),), (Once(0.5), _PTQ), *((one,) for one in _LESS)],
}
KINDS = {kind.name: kind for kind in (sdk.methods.WeightSparsity, sdk.methods.PTQ, sdk.methods.QAT)}
TRAINED = ("mobilenet_v1_fmnist", "vit_fmnist")
"""Cases that learn from labelled data; the others from calibration inputs."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(RECIPES)))
@click.option("--row", "chosen", type=int, multiple=True, help="Recipes, counted from 0; the others stay as they are.")
def main(names: tuple[str, ...], chosen: tuple[int, ...]) -> None:
    """Evaluates the named cases, or all, and writes the result files and the table."""
    for name in names or RECIPES:
        case = CASES[name]()
        whole = float(case.evaluate(without_gradients(case.module)))
        rows = _measured(name)
        for number in chosen or range(len(RECIPES[name])):
            recipe = RECIPES[name][number]
            rows[_key(recipe)] = {"before": whole, **_evaluated(case, recipe, trains=name in TRAINED)}
            _write(name, [rows[_key(known)] for known in RECIPES[name] if _key(known) in rows], case.unit)
    readme.write_table(README, "quality", text())


def _key(recipe: tuple[Any, ...]) -> str:
    return json.dumps([plain_method(method) for method in recipe], sort_keys=True)


def _measured(name: str) -> dict[str, dict[str, Any]]:
    """Rows of the result file by their recipe; an option that is newer than a row was as it is usually."""
    path = RESULTS / f"quality-{name}.json"
    rows = json.loads(path.read_bytes())["rows"] if path.exists() else []
    return {json.dumps([_usual(method["name"]) | method for method in row["methods"]], sort_keys=True): row for row in rows}


def _evaluated(case: Case, recipe: tuple[Any, ...], *, trains: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bundle = sdk.export(
            case.module,
            "host:native",
            example_inputs=case.inputs,
            methods=recipe,
            calibration=case.calibration,
            train=case.train if trains else None,
            output=Path(folder) / "model.edge",
        )
        with sdk.load(bundle.path, threads=1) as session:
            after = float(case.evaluate(lambda *inputs: first_output(session, inputs)))
    snr = bundle.parity.snr_db
    return {
        "methods": [plain_method(method) for method in recipe],
        "commit": current_commit(),
        "changes": list(bundle.manifest.changes),
        "after": after,
        "parity_db": None if snr == float("inf") else snr,
        "file_bytes": bundle.file_bytes,
    }


def _write(name: str, rows: list[dict[str, Any]], unit: str) -> None:
    found = {"rows": rows, "unit": unit, "kind": "measured", "machine": machine(), "commit": current_commit(), "date": now()}
    found["versions"] = {package: installed(package) or "" for package in PACKAGES}
    write_file(RESULTS / f"quality-{name}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def text() -> str:
    """One line a recipe."""
    lines = ["| model | methods | bytes | dense | sparse | |", "|---|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("quality-*.json")):
        found = json.loads(path.read_text())
        for row in found["rows"]:
            figures = f"{row['file_bytes']:,} | {row['before']:.2f} | {row['after']:.2f} | {found['unit']}"
            recipe = ", then ".join(map(_said, row["methods"]))
            lines.append(f"| {path.stem.removeprefix('quality-')} | {recipe} | {figures} |")
    return "\n".join(lines)


def _said(method: dict[str, Any]) -> str:
    """A method with the options that are not the usual ones."""
    usual = _usual(method["name"])
    options = [f"{name}={value}" for name, value in method.items() if value != usual[name] and name != "even_if_slower"]
    return f"{KINDS[method['name']].__name__}({', '.join(options)})"


def _usual(name: str) -> dict[str, Any]:
    return plain_method(KINDS[name]())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

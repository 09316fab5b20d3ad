"""The command line: exit codes, JSON, what a user reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.cli import VERBS, main

MODEL = "tests.cli_model:build"
SHAPE = ["--input-shape", "1,3,64,64"]


@pytest.fixture
def edgewright(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "m.edge"
    with pytest.raises(SystemExit) as stop:
        main(["export", MODEL, "--device", "host:onnxruntime", *SHAPE, "-o", str(path)])
    assert not stop.value.code
    return path


def test_every_verb_has_help_and_most_have_json(edgewright):
    code, out, _ = edgewright("--help")
    assert code == 0 and all(verb in out for verb in VERBS)
    for verb in VERBS:
        code, out, _ = edgewright(verb, "--help")
        assert code == 0 and (verb == "bench" or "--json" in out)
    assert "--json" in edgewright("bench", "model", "--help")[1]


def test_usage_errors_are_2(edgewright):
    for arguments in (("exprt",), ("export",), ("export", MODEL), ("verify",), ("bench", "model"), ("devices", "--kind", "x")):
        code, out, err = edgewright(*arguments)
        assert (code, out) == (2, "") and "Error" in err
    assert "did you mean 'export'?" in edgewright("exprt")[2]
    for model in ("nowhere:build", "tests.cli_model:nothing", "tests.cli_model"):
        code, _, err = edgewright("export", model, "--device", "host")
        assert code == 2 and "Traceback" not in err


def test_errors_are_1_and_one_line_unless_debug(edgewright, tmp_path):
    code, out, err = edgewright("verify", tmp_path / "none.edge")
    assert (code, out, len(err.splitlines())) == (1, "", 1) and err.startswith("edgewright: BundleError: no bundle")
    code, _, err = edgewright("--debug", "verify", tmp_path / "none.edge")
    assert code == 1 and "Traceback" in err
    code, _, err = edgewright("export", MODEL, "--device", "jetsonnano", *SHAPE)
    assert code == 1 and "did you mean 'jetson-nano'" in err


def test_export_says_what_the_readme_promises(edgewright, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    code, out, err = edgewright("export", MODEL, "--device", "jetson-nano", *SHAPE)
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert len(lines) <= 8 and lines[0].startswith("small-jetson-nano.edge  ")
    starts = [line.split()[0] for line in lines[1:]]
    assert starts == ["engine", "inputs", "parity", "latency", "unused", "next"]
    assert "rule" in lines[1] and "unknown" in lines[4] and "deploy" in lines[-1]


def test_export_json(edgewright, tmp_path):
    code, out, _ = edgewright("export", MODEL, "--device", "host:litert", *SHAPE, "-o", tmp_path / "m.edge", "--json")
    said = json.loads(out)
    assert code == 0 and said["format"] == "tflite" and said["latency"][0]["kind"] == "measured"
    assert said["parity"]["outputs"][0]["name"] == "output"


def test_check(edgewright):
    code, out, _ = edgewright("check", MODEL, *SHAPE, "--format", "onnx")
    assert (code, out) == (0, "onnx: ok\n")
    code, out, _ = edgewright("check", "tests.cli_model:forks", "--input-shape", "2,4", "--format", "onnx")
    assert code == 1 and "onnx: 2 problems" in out and "first.1" in out and "fix:" in out
    code, out, _ = edgewright("check", "tests.cli_model:forks", "--input-shape", "2,4", "--format", "onnx", "--json")
    assert code == 1 and [f["module_path"] for f in json.loads(out)["onnx"]] == ["first.1", "last"]


def test_run(edgewright, bundle, tmp_path):
    code, out, _ = edgewright("run", bundle)
    assert code == 0 and out.startswith("output: float32[1, 10] min ")
    code, out, _ = edgewright("run", bundle, "--json")
    assert json.loads(out) == {"output": {"dtype": "float32", "shape": [1, 10]}}
    (tmp_path / "bad.npy").write_text("no")
    code, _, err = edgewright("run", bundle, tmp_path / "bad.npy")
    assert code == 1 and "cannot read the inputs" in err
    (tmp_path / "bad.jpg").write_text("no")
    code, _, err = edgewright("run", bundle, tmp_path / "bad.jpg")
    assert code == 1 and "sdk.Image" in err


def test_bench_writes_every_sample(edgewright, bundle, tmp_path):
    arguments = ("bench", "model", bundle, bundle, "--samples", "5", "--seconds", "0", "--save")
    code, out, _ = edgewright(*arguments, "-o", tmp_path / "r.json")
    assert code == 0 and "ratio" in out and "measured" in out
    result = json.loads((tmp_path / "r.json").read_text())
    assert [len(row["measurement"]["samples_s"]) for row in result["rows"]] == [5, 5]
    assert result["rows"][0]["ratio"] == 1 and result["machine"]["processor"] and result["date"]
    assert list((bundle / "measurements").glob("*.json"))
    assert edgewright("verify", bundle)[0] == 0


def test_pack_verify_report(edgewright, bundle, tmp_path):
    code, out, _ = edgewright("pack", bundle, "-o", tmp_path / "m.edgez", "--json")
    assert code == 0 and json.loads(out)["bytes"] == (tmp_path / "m.edgez").stat().st_size
    assert "intact" in edgewright("verify", tmp_path / "m.edgez")[1]
    code, out, _ = edgewright("report", tmp_path / "m.edgez")
    assert code == 0 and Path(out.strip()).read_text().startswith("<!")


def test_devices(edgewright):
    code, out, _ = edgewright("devices", "--json")
    found = {profile["id"] for profile in json.loads(out)}
    assert code == 0 and {"jetson-nano", "raspberry-pi-5", "browser-chromium", "host"} <= found
    assert "raspberry-pi-5" in edgewright("devices", "pi", "--engine", "litert")[1]
    assert "raspberry-pi-3b" not in edgewright("devices", "pi", "--feature", "asimddp")[1]
    code, _, err = edgewright("devices", "jetson-nanu")
    assert code == 1 and "did you mean" in err


def test_doctor(edgewright):
    said = json.loads(edgewright("doctor", "--json")[1])
    assert {p["package"] for p in said["extras"]["onnx"]} == {"torch", "onnx", "onnxscript", "onnxruntime"}
    assert "export to ONNX" in edgewright("doctor")[1]


def test_the_installed_command_starts():
    command = Path(sys.executable).with_name("edgewright")
    run = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert run.returncode == 0 and "0.1.0" in run.stdout and run.stderr == ""


def test_methods_and_what_they_saved(edgewright, tmp_path):
    method = "token-dropping:strategy=attention,keep=0.5,stages=0"
    arguments = ("export", "tests.cli_model:vit", "--device", "host:onnxruntime", "--input-shape", "1,3,32,32", "--json")
    code, out, _ = edgewright(*arguments, "--method", method, "-o", tmp_path / "v.edge")
    found = json.loads(out)
    assert code == 0 and found["changes"][0].startswith("token-dropping: attention; 17 tokens, behind blocks.0")
    rows = {row["path"]: row for row in found["layers"]}
    assert list(rows) == ["blocks.0", "blocks.1", ""]
    assert (rows["blocks.1"]["tokens_before"], rows["blocks.1"]["tokens_after"]) == (17, 8)
    assert rows["blocks.1"]["macs_after"] < rows["blocks.1"]["macs_before"]
    assert edgewright("report", tmp_path / "v.edge", "-o", tmp_path / "r.html")[0] == 0
    assert "tokens before" in (tmp_path / "r.html").read_text()
    for wrong, code in (("token-dropping:keep=0", 1), ("tokendropping", 2), ("token-dropping:kep=1", 2)):
        assert edgewright(*arguments, "--method", wrong, "-o", tmp_path / "w.edge")[0] == code
    assert not (tmp_path / "w.edge").exists()


def test_a_name_that_is_almost_right_is_named(edgewright):
    code, _, err = edgewright("export", "tests.cli_model:biuld", "--device", "host")
    assert code == 2 and "tests.cli_model has no 'biuld'; it has build" in err

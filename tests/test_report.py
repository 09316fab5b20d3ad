"""The report: complete, escaped, self-contained, the same for the same bundle."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import device_profiles
from device_profiles import Accelerator, Core, CoreGroup, DeviceProfile, EngineRow, Memory
from device_profiles.errors import DeviceError, OutputError
from device_profiles.record import unstructure
from edgewright_runtime.bundle.latency import Latency, Measurement
from edgewright_runtime.bundle.lowered import Bounds, Entry, TensorSpec
from edgewright_runtime.bundle.manifest import (
    EngineNeed,
    Layer,
    Manifest,
    MemoryNeed,
    Model,
    OutputParity,
    Parity,
    Quality,
    Recipe,
    StateSpec,
)
from edgewright_runtime.bundle.seal import seal
from edgewright_runtime.preprocess import Classify, Image
from sdk.bundle import Bundle
from sdk.report import html
from sdk.report.html import size, time_axis, write_report

HOSTILE = "<script>alert('x')</script>\"&"
VOID = {"meta", "line", "rect"}

BOARD = DeviceProfile(
    id="test-board",
    name="Test Board 4",
    kind="board",
    soc="SoC-1234",
    core_groups=(CoreGroup("core-a", 4, 1_430_000_000, 32768, 2 << 20),),
    memory=Memory((4 << 30, 1 << 30, 8 << 20), 25_600_000_000, 1 << 20, "LPDDR4"),
    engines=(
        EngineRow("onnxruntime", "onnx", "runs", "fp32 and int8", install="pip install onnxruntime"),
        EngineRow("tensorrt", "onnx", "export-only", "nobody ran it"),
    ),
    os="Linux 4.9",
    libc="glibc 2.27",
    sources={"core_groups.clock_hz": "vendor's data sheet, https://example.com/sheet"},
    accelerators=(Accelerator("Small GPU", "not-used", "VendorTool 8"),),
    thermal="throttles at 97 C",
    cores={"core-a": Core("core-a", "Core A", "armv8.0-a", ("asimd",), 128, 4.0, 8.0, True, {})},
)


@pytest.fixture(autouse=True)
def _board(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> DeviceProfile:
        if name == BOARD.id:
            return BOARD
        raise DeviceError(f"no device {name!r}")

    monkeypatch.setattr(device_profiles, "device", find)


def tensor(name: str, *shape: int | str, **bounds: Bounds) -> TensorSpec:
    return TensorSpec(name, "float32", shape, bounds, f"binding_{name}")


def latency(kind: Any = "estimated", **changes: Any) -> Latency:
    row = Latency(0.00472, 0.0041, 0.00533, 0.9, kind, BOARD.id, "onnxruntime", 4, f"source of the {kind} latency")
    return replace(row, **changes)


def manifest(**changes: Any) -> Manifest:
    """The smallest manifest: every optional part is missing."""
    smallest = Manifest(
        schema="1.0",
        model=Model("tiny_net", 3_504_872, 300_774_272, "float32", "given by the caller"),
        device=BOARD.id,
        format="onnx",
        engine=EngineNeed("onnxruntime", "1.31.1", "1.17", None, {"opset": 17}, ()),
        engine_why="rule: first in the profile's order",
        entries={"main": Entry("model.onnx", (tensor("image", 1, 3, 8, 8),), (tensor("logits", 1, 10),))},
        states=(),
        files={},
        segments=(),
        preprocess={},
        labels=None,
        postprocess=None,
        recipe=Recipe((), "onnxruntime", 4),
        changes=(),
        quantization=None,
        latency=(),
        memory=MemoryNeed(18_000_000, 14_000_000, 4_000_000, "estimated", "sum of the live tensors"),
        parity=parity(OutputParity("logits", 3.2e-6, 121.44, 0.99999999)),
        quality=None,
        versions={"torch": "2.13.0", "onnx": "1.23.2"},
    )
    return replace(smallest, **changes)


def parity(*outputs: OutputParity) -> Parity:
    return Parity("measured", 60.0, "onnxruntime", "1.31.1", "PyTorch in float32", ("example", "batch=8"), outputs)


def full() -> Manifest:
    """Every optional part is there."""
    outputs = tuple(tensor(f"head_{index}", "batch", 10, batch=Bounds(1, 8)) for index in range(20))
    main = Entry("model.onnx", (tensor("image", "batch", 3, 8, 8, batch=Bounds(1, 8)),), outputs)
    compared = [OutputParity(o.name, 1e-6 * i, 40.0 + 5 * i, 1.0) for i, o in enumerate(outputs)]
    compared[3] = replace(compared[3], snr_db=None, max_abs=0.0)
    return manifest(
        entries={"main": main, "decode": Entry("decode.onnx", (), (tensor("next"),))},
        engine=EngineNeed("onnxruntime", "1.31.1", "1.17", "1.40", {"opset": 17}, ("asimddp",)),
        states=(StateSpec("cache_in", "cache_out", "float32", (1, "length", 64), 1, 2048),),
        preprocess={"image": Image(size=224, crop=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))},
        labels="labels.txt",
        postprocess=Classify(top_k=3),
        recipe=Recipe(({"name": "quantize", "bits": 8, "per_channel": True, "skip": ["head"]},), "onnxruntime", 4),
        changes=("fused 52 batch norms into convolutions", "removed 3 dropouts"),
        quantization={"activations": "int8 affine"},
        latency=(latency(), latency("measured", median_s=0.005, engine="executorch"), latency(threads=1, high_s=0.02)),
        parity=parity(*compared),
        quality=Quality(0.7188, 0.7131, "measured", "evaluate() of the caller"),
    )


def make(folder: Path, content: Manifest, labels: str = "cat\ndog\n") -> Bundle:
    """Seals a bundle whose core files are of known sizes."""
    names = {entry.file for entry in content.entries.values()} | ({content.labels} if content.labels else set())
    work = folder / "work"
    work.mkdir()
    for name in names:
        (work / name).write_bytes(labels.encode() if name == content.labels else bytes(3 << 20))
    seal(work, content, names, folder / "tiny.edge")
    return Bundle.open(folder / "tiny.edge")


def measurement(bundle: Bundle, **changes: Any) -> Measurement:
    record = Measurement(
        manifest_sha256=bundle.sha256,
        device=BOARD.id,
        engine="onnxruntime",
        engine_version="1.31.1",
        threads=4,
        samples_s=tuple(0.0040 + 0.00001 * (index % 17) for index in range(60)) + (0.4,),
        ops={f"conv_{index}": 0.0001 * index for index in range(12)},
        peak_memory_bytes=50 << 20,
        throttled=False,
        kind="measured",
        machine={"processor": "Core A at work", "load": "0.10"},
        versions={"onnxruntime": "1.31.1"},
        commit="abc1234",
        date="2026-01-02T03:04:05+00:00",
    )
    return replace(record, **changes)


def put(bundle: Bundle, name: str, record: Any) -> None:
    folder = bundle.path / "measurements"
    folder.mkdir(exist_ok=True)
    text = record if isinstance(record, str) else json.dumps(unstructure(record))
    (folder / name).write_text(text, encoding="utf-8")


def written(bundle: Bundle, path: Path) -> str:
    assert write_report(bundle, path) == path
    return path.read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, on one line."""
    body = re.sub(r"(?s)<style>.*?</style>", "", page)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


class _Checker(HTMLParser):
    """Collects tags and attributes; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def parsed(page: str) -> list[tuple[str, dict[str, str | None]]]:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker.seen


def test_smallest_bundle_shows_every_number(tmp_path: Path) -> None:
    page = words(written(make(tmp_path, manifest()), tmp_path / "r.html"))
    for text in ("tiny_net", "for Test Board 4", "3.50 M parameters", "301 M multiply-adds", "onnxruntime", "1.31.1"):
        assert text in page
    for text in ("rule: first in the profile&#39;s order", "3 MiB", "3,145,728 bytes", "121.4 dB SNR", "3.20e-06"):
        assert text in page
    assert "unknown nothing was measured or estimated for test-board" in page
    assert "None was asked for." in page and "the graph is as captured" in page
    assert "Quality" not in page and "efore and after" not in page


def test_board_facts(tmp_path: Path) -> None:
    page = words(written(make(tmp_path, manifest()), tmp_path / "r.html"))
    for text in ("SoC-1234", "4 × Core A at 1.43 GHz", "L1 data 32 KiB a core", "L2 2 MiB shared", "L3 cache 1 MiB"):
        assert text in page
    for text in ("8 MiB, 1 GiB, 4 GiB LPDDR4", "25.6 GB/s", "export-only", "present, not used", "VendorTool 8"):
        assert text in page
    assert "does not fit" in page, "18 MB do not fit into 8 MiB"
    assert "vendor&#39;s data sheet" in page


def test_full_bundle_shows_every_part(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    put(bundle, "a.json", measurement(bundle))
    page = words(written(bundle, tmp_path / "r.html"))
    for text in (
        "quantize bits = 8; per_channel = true; skip = head",
        "removed 3 dropouts",
        "int8 affine",
        "axis 1, up to 2048",
    ):
        assert text in page
    for text in (
        "batch 1 to 8",
        "0.485, 0.456, 0.406",
        "top k 3",
        "2 labels in labels.txt : cat, dog",
        "onnxruntime 1.17 to 1.40",
    ):
        assert text in page
    for text in ("0.7131", "−0.0057 against 0.7188 before", "asimddp", bundle.sha256, "head_19", "decode.onnx"):
        assert text in page
    assert page.count("below") == 3, "40, 45 and 50 dB; the fourth is exact"


def test_layers_before_and_after(tmp_path: Path) -> None:
    rows = (Layer("blocks.1", 197, 98, 35_756_288, 15_303_680), Layer("", None, None, 10_663_680, 10_663_680))
    page = words(written(make(tmp_path, manifest(layers=rows)), tmp_path / "r.html"))
    assert "blocks.1 197 98 35.8 M 15.3 M" in page
    assert "the rest 10.7 M 10.7 M" in page


def test_kinds_never_share_a_chart(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    put(bundle, "a.json", measurement(bundle))
    put(bundle, "b.json", measurement(bundle, kind="simulated"))
    page = written(bundle, tmp_path / "r.html")
    section = page[page.index('aria-labelledby="latency"') : page.index('aria-labelledby="size"')]
    charts = re.split(r"<h3>", section)[1:]
    kinds = [set(re.findall(r'class="(?:tag|range|histogram|bar) (\w+)"', chart)) for chart in charts]
    assert kinds == [{"measured"}, {"estimated"}, {"measured"}, {"simulated"}]


def test_headline_latency_prefers_what_is_known_best(tmp_path: Path) -> None:
    def headline(content: Manifest, *records: dict[str, Any]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        bundle = make(folder, content)
        for index, changes in enumerate(records):
            put(bundle, f"{index}.json", measurement(bundle, **changes))
        page = words(written(bundle, folder / "r.html"))
        return page[page.index("rule:") : page.index("File size")]

    estimated, sealed = (
        manifest(latency=(latency(),)),
        manifest(latency=(latency(), latency("measured", median_s=0.009))),
    )
    assert "estimated 4.72 ms median; 4.10 to 5.33 ms for 90 % of runs" in headline(estimated)
    assert "measured 9 ms" in headline(sealed)
    assert "measured 4.07 ms median; min 4.00, p90 4.15 ms" in headline(estimated, {})
    assert "estimated 4.72 ms" in headline(estimated, {"kind": "simulated"})
    assert "estimated 4.72 ms" in headline(estimated, {"device": "host"})
    assert "unknown" in headline(manifest(latency=(latency(device="host"),)))


def test_measurements_of_this_bundle_only(tmp_path: Path) -> None:
    bundle = make(tmp_path, manifest())
    put(bundle, "mine.json", measurement(bundle))
    put(bundle, "other.json", measurement(bundle, manifest_sha256="0" * 64, engine="stranger"))
    page = words(written(bundle, tmp_path / "r.html"))
    for text in ("min 4.00 median 4.07 p90 4.15 unit ms samples 61", "peak memory 50 MiB", "Core A at work"):
        assert text in page
    assert "1 sample right of the axis, the largest 400.00 ms" in page
    assert "The 4 others take 600 µs together." in page
    assert "1 measurement of another bundle not shown." in page and "stranger" not in page
    assert "measurements/mine.json, 2026-01-02T03:04:05+00:00, 61 samples, Edgewright abc1234" in page


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', "{}", "[" * 100_000, '{"samples_s": [NaN]}'],
    ids=["cut", "list", "string", "empty", "deep", "nan"],
)
def test_unreadable_measurement_is_named_and_skipped(tmp_path: Path, text: str) -> None:
    bundle = make(tmp_path, manifest())
    put(bundle, "bad.json", text)
    assert "bad.json is not shown" in written(bundle, tmp_path / "r.html")


@pytest.mark.parametrize("samples", [(), (math.nan,), (math.inf,), (-1.0,)], ids=str)
def test_impossible_samples_are_skipped(tmp_path: Path, samples: tuple[float, ...]) -> None:
    bundle = make(tmp_path, manifest())
    put(bundle, "bad.json", measurement(bundle, samples_s=samples))
    assert "bad.json is not shown" in written(bundle, tmp_path / "r.html")


@pytest.mark.parametrize("samples", [(0.0,), (0.004,), (0.004,) * 50, (0.0, 1e-9), (1.0, 5000.0)], ids=str)
def test_odd_samples_are_drawn(tmp_path: Path, samples: tuple[float, ...]) -> None:
    bundle = make(tmp_path, manifest())
    put(bundle, "odd.json", measurement(bundle, samples_s=samples, ops={}, peak_memory_bytes=None, throttled=None))
    page = written(bundle, tmp_path / "r.html")
    assert 'class="histogram measured"' in page and "clock fell unknown" in words(page)


def test_throttling_is_said(tmp_path: Path) -> None:
    bundle = make(tmp_path, manifest())
    put(bundle, "hot.json", measurement(bundle, throttled=True))
    assert "the clock fell during the run" in written(bundle, tmp_path / "r.html")


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    entry = Entry("model.onnx", (tensor(HOSTILE, HOSTILE, **{HOSTILE: Bounds(1, 2)}),), (tensor(HOSTILE, 1),))
    content = manifest(
        model=Model(HOSTILE, 1, 1, HOSTILE, HOSTILE),
        entries={"main": entry, HOSTILE: replace(entry)},
        engine_why=HOSTILE,
        labels="labels.txt",
        preprocess={HOSTILE: Image(size=8)},
        postprocess=Classify(output=HOSTILE),
        recipe=Recipe(({"name": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}},), HOSTILE, 1),
        changes=(HOSTILE,),
        quantization={HOSTILE: HOSTILE},
        latency=(latency(engine=HOSTILE, source=HOSTILE),),
        memory=MemoryNeed(1, 1, 0, "measured", HOSTILE),
        parity=parity(OutputParity(HOSTILE, 0.0, 70.0, 1.0)),
        quality=Quality(0.0, -1.0, "measured", HOSTILE),
        versions={HOSTILE: HOSTILE},
    )
    bundle = make(tmp_path, content, labels=f"{HOSTILE}\n" * 9)
    hostile = {"engine": HOSTILE, "ops": {HOSTILE: 1.0}, "machine": {HOSTILE: HOSTILE}, "date": HOSTILE}
    put(bundle, "a.json", measurement(bundle, **hostile))
    put(bundle, "b.json", json.dumps({HOSTILE: 1}))
    page = written(bundle, tmp_path / "r.html")
    assert not {"script", "alert"} & {name for name, _ in parsed(page)}
    assert page.count("&lt;script&gt;") > 30
    assert "alert('x')" not in page


def test_report_is_self_contained(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    put(bundle, "a.json", measurement(bundle))
    page = written(bundle, tmp_path / "r.html")
    loads = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}
    for name, attributes in parsed(page):
        assert name not in {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
        assert not loads & set(attributes)
        assert not any(key.startswith("on") for key in attributes)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in style
    assert "default-src 'none'" in page


def test_every_chart_has_a_text(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    put(bundle, "a.json", measurement(bundle))
    page = written(bundle, tmp_path / "r.html")
    charts = [attributes for name, attributes in parsed(page) if name == "svg"]
    assert len(charts) > 30
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert page.count("<svg") == len(re.findall(r"<svg[^>]*><title>[^<]+</title>", page))


def test_same_bundle_same_bytes(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    put(bundle, "b.json", measurement(bundle))
    put(bundle, "a.json", measurement(bundle, date="2025-01-01T00:00:00+00:00"))
    first = write_report(bundle, tmp_path / "1.html").read_bytes()
    inside = write_report(Bundle.open(bundle.path), bundle.path / "report.html").read_bytes()
    again = write_report(Bundle.open(bundle.path), tmp_path / "2.html").read_bytes()
    assert first == inside == again


def test_packed_bundle_says_the_same(tmp_path: Path) -> None:
    bundle = make(tmp_path, full())
    packed = replace(bundle, path=bundle.pack(tmp_path / "tiny.edgez"))
    assert written(packed, tmp_path / "packed.html") == written(bundle, tmp_path / "folder.html")


def test_public_method_writes_it(tmp_path: Path) -> None:
    bundle = make(tmp_path, manifest())
    assert bundle.report(tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_unknown_device_shows_its_id(tmp_path: Path) -> None:
    page = words(written(make(tmp_path, manifest(device="gone-board")), tmp_path / "r.html"))
    assert "for gone-board" in page and "gone-board has no profile here" in page


def test_host_bundle_does_not_depend_on_this_machine(tmp_path: Path) -> None:
    page = words(written(make(tmp_path, manifest(device="host")), tmp_path / "r.html"))
    assert "for the machine it was exported on" in page and "this machine (" not in page


def test_exact_and_missing_parity(tmp_path: Path) -> None:
    for index, (outputs, text) in enumerate(
        [
            ((OutputParity("logits", 0.0, None, 1.0),), "exact 1 output equal bit for bit"),
            ((), "no output was compared"),
        ]
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert text in words(written(make(folder, manifest(parity=parity(*outputs))), folder / "r.html"))


def test_many_files_are_summed_up(tmp_path: Path) -> None:
    entries = {f"e{index}": Entry(f"{index}.onnx", (), ()) for index in range(15)}
    entries["main"] = entries.pop("e0")
    page = words(written(make(tmp_path, manifest(entries=entries)), tmp_path / "r.html"))
    assert "3 smaller files, 9 MiB together, not drawn." in page


def test_zero_sizes_are_drawn(tmp_path: Path) -> None:
    content = manifest(
        memory=MemoryNeed(0, 0, 0, "measured", "empty"), latency=(latency(median_s=0.0, low_s=0.0, high_s=0.0),)
    )
    page = written(make(tmp_path, content), tmp_path / "r.html")
    assert "nan" not in words(page) and 'width="0.0%"' in page


@pytest.mark.parametrize(
    "place", ["no-folder/r.html", "folder", "tiny.edge/model.onnx", "tiny.edge/other.html", "tiny.edge"]
)
def test_bad_path_is_an_output_error_and_harms_nothing(tmp_path: Path, place: str) -> None:
    bundle = make(tmp_path, manifest())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_report(bundle, tmp_path / place)
    assert Bundle.open(bundle.path).sha256 == bundle.sha256
    assert not list(tmp_path.rglob("*.partial"))


def test_report_cannot_replace_a_packed_bundle(tmp_path: Path) -> None:
    bundle = make(tmp_path, manifest())
    packed = replace(bundle, path=bundle.pack(tmp_path / "tiny.edgez"))
    with pytest.raises(OutputError, match="damage the bundle"):
        write_report(packed, tmp_path / "tiny.edgez")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (14_272_234, "13.6 MiB"), (8 << 30, "8 GiB")]
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_axis_positions_and_ticks() -> None:
    axis = time_axis([0.0047, 0.0053])
    assert (axis.unit, axis.at(0.0), axis.at(0.0053), axis.at(1.0)) == ("ms", 0.0, 100.0, 100.0)
    assert [axis.tick(tick) for tick in axis.ticks] == ["0", "2", "4"]
    assert axis.text(0.0047) == "4.70"


def test_module_surface() -> None:
    assert html.__all__ == ["write_report"]

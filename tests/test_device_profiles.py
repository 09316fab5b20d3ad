"""Every profile loads, has a source for every number, and says no more than is known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import device_profiles
from device_profiles import Core, DeviceProfile, choose, device, devices
from device_profiles.errors import DeviceError, EdgewrightError
from device_profiles.host import saturates

OURS = Path(device_profiles.__file__).parent
BOARDS = sorted(path.stem for path in (OURS / "boards").glob("*.toml"))
CORES = sorted(path.stem for path in (OURS / "cores").glob("*.toml"))
REQUIRED = {
    "jetson-nano",
    "jetson-orin-nano",
    "raspberry-pi-3b",
    "raspberry-pi-4b",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
    "radxa-zero-3w",
    "orange-pi-5",
    "rock-5b",
    "pixel-4",
    "pixel-6",
    "pixel-7",
    "pixel-8",
    "galaxy-s23",
    "imx8m-plus-evk",
    "intel-n100",
    "coral-dev-board",
    "khadas-vim3",
    "browser-chromium",
}
FORMATS = {"native": "onnx", "onnxruntime": "onnx", "litert": "tflite", "executorch": "executorch"}

GOOD_CORE = """
id = "my-core"
name = "My core"
isa = "armv8.2-a"
features = ["asimd", "asimddp"]
vector_bits = 128
fp32_macs_per_cycle = 8.0
int8_macs_per_cycle = 32.0
out_of_order = true
[sources]
"""
GOOD_BOARD = """
id = "my-board"
name = "My board"
kind = "board"
aliases = ["mine"]
soc = "My chip"
os = "Debian 12"
libc = "glibc 2.36"
[[core_groups]]
core = "my-core"
count = 2
clock_hz = 1_000_000_000
[memory]
dram_bytes = [1_073_741_824]
[[engines]]
name = "onnxruntime"
format = "onnx"
status = "runs"
note = "fp32"
[sources]
memory = "the label on the box"
"""


@pytest.fixture(scope="session")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("no-devices-of-the-user")


@pytest.fixture(autouse=True)
def ours_alone(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the devices of whoever runs the tests out of them."""
    monkeypatch.setenv("EDGEWRIGHT_DEVICES", str(empty_folder))


@pytest.fixture
def user_folder(ours_alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder for each test: the loader caches by folder."""
    monkeypatch.setenv("EDGEWRIGHT_DEVICES", str(tmp_path))
    for name in ("boards", "cores"):
        (tmp_path / name).mkdir()
    return tmp_path


def numbers(record: Any, path: str = "") -> Iterator[str]:
    """Paths of the numeric leaves; elements of a tuple share the path of the tuple."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        for item in dataclasses.fields(record):
            if (type(record), item.name) != (DeviceProfile, "cores"):
                yield from numbers(getattr(record, item.name), f"{path}.{item.name}".lstrip("."))
    elif isinstance(record, tuple):
        for element in record:
            yield from numbers(element, path)
    elif isinstance(record, int | float) and not isinstance(record, bool):
        yield path


def covers(key: str, path: str) -> bool:
    return path == key or path.startswith(f"{key}.")


def without_source(record: Core | DeviceProfile) -> set[str]:
    return {path for path in numbers(record) if not any(covers(key, path) for key in record.sources)}


def all_cores() -> dict[str, Core]:
    return {name: core for profile in devices() if profile.id != "host" for name, core in profile.cores.items()}


def test_there_are_many_boards_and_the_ones_people_ask_for() -> None:
    assert len(BOARDS) >= 24
    assert not REQUIRED - set(BOARDS)
    assert [profile.id for profile in devices()] == [*BOARDS, "host"]


def test_every_core_is_used_by_a_board() -> None:
    assert sorted(all_cores()) == CORES


@pytest.mark.parametrize("name", BOARDS)
def test_every_number_of_a_board_has_a_source(name: str) -> None:
    assert without_source(device(name)) == set()


@pytest.mark.parametrize("name", CORES)
def test_every_number_of_a_core_has_a_source(name: str) -> None:
    assert without_source(all_cores()[name]) == set()


def test_the_walker_finds_a_number_without_source() -> None:
    pi = device("raspberry-pi-5")
    fewer = dataclasses.replace(pi, sources={k: v for k, v in pi.sources.items() if k != "memory.l3_bytes"})
    assert without_source(fewer) == {"memory.l3_bytes"}
    assert {"core_groups.clock_hz", "memory.dram_bytes", "engines.weight_qmax"} <= set(numbers(pi))


@pytest.mark.parametrize("name", [*BOARDS, *CORES])
def test_every_source_belongs_to_a_number_and_says_something(name: str) -> None:
    record = device(name) if name in BOARDS else all_cores()[name]
    found = set(numbers(record))
    for key, text in record.sources.items():
        assert any(covers(key, path) for path in found), f"{name}: nothing at {key}"
        assert len(text) > 15 and text == text.strip()


def test_names_and_aliases_are_unique_and_lower_case() -> None:
    names = [name for profile in devices() for name in (profile.id, *profile.aliases)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name) for name in names)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_be_found_by_each_of_its_names(name: str) -> None:
    profile = device(name)
    for alias in profile.aliases:
        assert device(f" {alias.upper()} ") is profile


@pytest.mark.parametrize("name", BOARDS)
def test_engine_rows_are_consistent(name: str) -> None:
    rows = device(name).engines
    assert len({row.name for row in rows}) == len(rows) > 0
    for row in rows:
        assert row.format == FORMATS[row.name]
        assert row.note
        assert row.install or row.status != "runs"
        assert row.max_version is None or row.max_version in row.install
    ranks = [("runs", "export-only", "not-used").index(row.status) for row in rows]
    assert ranks == sorted(ranks), "rows that run come first"


@pytest.mark.parametrize("name", BOARDS)
def test_accelerator_rows_are_consistent(name: str) -> None:
    profile = device(name)
    pins = [part.pin for part in profile.accelerators] + [row.name for row in profile.engines]
    assert None not in pins and len(set(pins)) == len(pins)
    for part in profile.accelerators:
        assert part.tool and part.note
        assert bool(part.command) == bool(part.format) == (part.status != "not-used")


@pytest.mark.parametrize("name", BOARDS)
def test_numbers_are_plausible(name: str) -> None:
    profile = device(name)
    assert 1 <= profile.big_cores <= 64
    for group in profile.core_groups:
        assert 5e8 <= group.clock_hz <= 6e9 or (profile.kind == "browser" and group.clock_hz == 0)
        assert group.l1d_bytes in (None, 32 << 10, 64 << 10)
        assert group.l2_bytes is None or 128 << 10 <= group.l2_bytes <= 4 << 20
    assert all(size % (512 << 20) == 0 for size in profile.memory.dram_bytes)
    assert list(profile.memory.dram_bytes) == sorted(set(profile.memory.dram_bytes))
    bandwidth = profile.memory.bandwidth_bytes_per_s
    assert bandwidth is None or 1e9 <= bandwidth <= 1e12


@pytest.mark.parametrize("name", CORES)
def test_a_core_multiplies_no_fewer_int8_than_fp32(name: str) -> None:
    core = all_cores()[name]
    assert core.int8_macs_per_cycle >= 2 * core.fp32_macs_per_cycle > 0
    dot = {"asimddp", "avx_vnni", "relaxed_simd"} & set(core.features)
    assert (core.int8_macs_per_cycle >= 4 * core.fp32_macs_per_cycle) == bool(dot)


@pytest.mark.parametrize("name", BOARDS)
def test_weights_stay_within_7_bits_where_avx2_saturates(name: str) -> None:
    profile = device(name)
    for row in profile.engines:
        assert row.weight_qmax == (63 if saturates(profile.features) and row.name == "onnxruntime" else 127)


@pytest.mark.parametrize(
    ("flags", "most"), [("avx2 fma", 63), ("avx2 avx_vnni", 127), ("avx2 avx512f avx512_vnni", 127), ("sse4_2", 127)]
)
def test_this_machine_says_whether_its_pairs_saturate(monkeypatch: pytest.MonkeyPatch, flags: str, most: int) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("device_profiles.host._cpuinfo", lambda: {"flags": flags})
    assert {row.name: row.weight_qmax for row in device("host").engines} == {
        "onnxruntime": most, "litert": 127, "executorch": 127, "native": 127,
    }  # fmt: skip


def test_features_are_those_that_all_cores_have() -> None:
    assert device("raspberry-pi-4b").features == ("asimd",)
    assert device("raspberry-pi-5").features == ("asimd", "asimddp", "asimdhp")
    assert device("pixel-3").features == ("asimd", "asimdhp")
    assert device("rock-pi-4b").big_cores == 2


def test_the_jetson_nano_means_its_cpu() -> None:
    nano = device("jetson-nano")
    first, second = nano.engines[:2]
    assert (first.name, first.max_version, first.opset_max, first.ir_version_max) == ("native", None, None, None)
    assert (second.name, second.max_version, second.opset_max, second.ir_version_max) == ("onnxruntime", "1.10.0", 15, 8)
    assert {row.name: row.status for row in nano.engines if row.name in ("litert", "executorch")} == {
        "litert": "not-used",
        "executorch": "not-used",
    }
    choice = choose("jetson-nano:tensorrt")
    assert choice.engine is None and choice.accelerator is not None
    assert (choice.accelerator.status, choice.accelerator.format, choice.accelerator.opset_max) == (
        "export-only",
        "onnx",
        13,
    )
    assert "trtexec" in choice.accelerator.command


def test_the_browser_prefers_our_own_engine() -> None:
    first = device("browser-chromium").engines[0]
    assert (first.name, first.format, first.status) == ("native", "onnx", "export-only")


def test_an_engine_can_be_pinned() -> None:
    choice = choose("raspberry-pi-5:litert")
    assert choice.accelerator is None and choice.engine is not None and choice.engine.format == "tflite"
    assert choose("raspberry-pi-5").engine is None


@pytest.mark.parametrize("name", BOARDS)
def test_pinning_an_idle_accelerator_names_the_vendors_tool(name: str) -> None:
    for part in device(name).accelerators:
        if part.status != "not-used":
            assert choose(f"{name}:{part.pin}").accelerator is part
            continue
        with pytest.raises(DeviceError) as caught:
            choose(f"{name}:{part.pin}")
        assert part.name in str(caught.value) and part.tool in str(caught.value)


def test_an_unknown_pin_lists_the_pins() -> None:
    with pytest.raises(DeviceError, match="no engine 'tensort'; it has: .*onnxruntime.*tensorrt"):
        choose("jetson-nano:tensort")


@pytest.mark.parametrize(
    ("typo", "meant"), [("jetson-nanp", "jetson-nano"), ("rasberry-pi-5", "raspberry-pi-5"), ("hots", "host")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo: str, meant: str) -> None:
    with pytest.raises(DeviceError) as caught:
        device(typo)
    assert f"no device {typo!r}" in str(caught.value) and "did you mean" in str(caught.value)
    assert repr(meant) in str(caught.value)


def test_a_name_far_from_all_is_answered_with_the_next_step() -> None:
    with pytest.raises(DeviceError, match="see: edgewright devices"):
        device("zzzzzzzzzzzz")


@pytest.mark.parametrize("wrong", [None, 5, Path("jetson-nano")])
def test_a_device_must_be_a_string(wrong: Any) -> None:
    with pytest.raises(DeviceError, match="must be a string"):
        device(wrong)
    with pytest.raises(DeviceError, match="must be a string"):
        choose(wrong)


def test_the_users_folder_adds_boards_and_cores(user_folder: Path) -> None:
    (user_folder / "cores" / "my-core.toml").write_text(GOOD_CORE)
    (user_folder / "boards" / "my-board.toml").write_text(GOOD_BOARD)
    mine = device("mine")
    assert mine.id == "my-board" and mine.features == ("asimd", "asimddp") and mine.big_cores == 2
    assert "my-board" in [profile.id for profile in devices()]
    assert device("jetson-nano").id == "jetson-nano"


def test_the_users_file_replaces_ours(user_folder: Path) -> None:
    text = (OURS / "boards" / "raspberry-pi-5.toml").read_text(encoding="utf-8")
    (user_folder / "boards" / "raspberry-pi-5.toml").write_text(
        text.replace("2_400_000_000", "2_900_000_000"), encoding="utf-8"
    )
    assert device("raspberry-pi-5").core_groups[0].clock_hz == 2_900_000_000
    assert len(devices()) == len(BOARDS) + 1


def test_all_problems_of_a_file_are_named_at_once(user_folder: Path) -> None:
    bad = GOOD_BOARD.replace("count = 2", 'count = "two"').replace('libc = "glibc 2.36"', 'libcc = "glibc 2.36"')
    path = user_folder / "boards" / "my-board.toml"
    path.write_text(bad.replace('status = "runs"', 'status = "walks"'))
    with pytest.raises(DeviceError) as caught:
        devices()
    message = str(caught.value)
    assert str(path) in message
    for problem in ("libcc", "libc", "count", "walks"):
        assert problem in message


@pytest.mark.parametrize("folder", ["boards", "cores"])
@pytest.mark.parametrize("content", [b"id = [", b"\xff\xfe\x00", b"", b'id = "other"'])
def test_a_broken_file_is_named(user_folder: Path, folder: str, content: bytes) -> None:
    path = user_folder / folder / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(DeviceError) as caught:
        device("jetson-nano")
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, EdgewrightError)


def test_the_id_is_the_files_name(user_folder: Path) -> None:
    (user_folder / "cores" / "my-core.toml").write_text(GOOD_CORE)
    (user_folder / "boards" / "other.toml").write_text(GOOD_BOARD)
    with pytest.raises(DeviceError, match="id is 'my-board', expected the file's name 'other'"):
        device("my-board")


def test_an_unknown_core_is_answered_with_the_known_ones(user_folder: Path) -> None:
    (user_folder / "boards" / "my-board.toml").write_text(GOOD_BOARD)
    with pytest.raises(DeviceError, match="my-core.*cores/ has .*cortex-a53"):
        device("my-board")


@pytest.mark.parametrize("taken", ["jetson-nano", "rpi5", "host"])
def test_a_taken_name_is_refused(user_folder: Path, taken: str) -> None:
    (user_folder / "cores" / "my-core.toml").write_text(GOOD_CORE)
    (user_folder / "boards" / "my-board.toml").write_text(GOOD_BOARD.replace('"mine"', f'"{taken}"'))
    with pytest.raises(DeviceError, match=f"the name '{taken}' is taken by"):
        devices()


def test_the_host_is_detected() -> None:
    host = device("Host")
    assert host.id == "host" and host.kind == "pc"
    assert host.big_cores >= 1 and host.memory.dram_bytes[0] >= 0
    assert host.core_groups[0].core in host.cores
    assert devices()[-1].id == "host"
    engine = choose("host:onnxruntime").engine
    assert engine is not None and engine.status == "runs"

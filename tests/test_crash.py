"""A crash or a full disk while sealing leaves the old bundle, the new one, or none; never a torn one.

Run as a program (``python -m tests.test_crash MODE FOLDER``) this file is the process that crashes:
it imports once and forks a child for each crash.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_profiles.errors import BundleError, OutputError
from edgewright_runtime.bundle import paths
from edgewright_runtime.bundle.paths import partial_folder, put_in_place, write_file
from edgewright_runtime.bundle.seal import open_bundle, seal
from tests.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).parent.parent
KILLS, SEED, LONGEST_S = 60, 20240611, 0.08
CRASHED, REFUSED, TOLERATED, DONE = 9, 3, 4, 0
WATCHED = ("open", "os.", "shutil.", "ctypes.dlsym")


# What crashes.


def export(source: Path, output: Path) -> None:
    """Builds and seals as an export does: everything in a partial folder, then exchanged."""
    opened = open_bundle(source)
    with partial_folder(output) as folder:
        for name in opened.manifest.files:
            (folder / name).write_bytes((source / name).read_bytes())
        seal(folder, opened.manifest, opened.manifest.files, output)


class Steps:
    """Counts what touches the disk and acts at one step: every audited call, fsync, and each half of a write."""

    def __init__(self, at: int, act: Callable[[str], None], watched: tuple[str, ...] = WATCHED) -> None:
        self.at, self.act, self.watched, self.count, self.active = at, act, watched, 0, False

    def step(self, name: str) -> None:
        if self.active:
            self.count += 1
            if self.count == self.at:
                self.act(name)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event.startswith(self.watched) and event != "os.scandir":
            self.step(event)

    def install(self) -> None:
        """Only in a child: an audit hook cannot be taken away."""
        sys.addaudithook(self.audit)
        write = Path.write_bytes

        def counted_fsync(fd: int) -> None:
            self.step("fsync")  # and no more: the page cache outlives a process

        def torn_write(path: Path, data: bytes) -> int:
            write(path, data[: len(data) // 2])
            self.step("half written")
            size = write(path, data)
            self.step("written")
            return size

        os.fsync = counted_fsync
        Path.write_bytes = torn_write  # type: ignore[method-assign, assignment]
        self.active = True


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a forked child that does the work."""
    pid = os.fork()
    if pid == 0:
        code = DONE
        try:
            work()
        except OutputError:
            code = REFUSED
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def exit_now(name: str) -> None:
    os._exit(CRASHED)


def no_space(name: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def each_step(folder: Path, act: Callable[[str], None], work: Callable[[Path], None], watched: tuple[str, ...]) -> None:
    """Does the work again and again, each time with one more step before it fails."""
    for at in itertools.count(1):
        place = folder / f"{at:04}"
        place.mkdir()
        if folder.name.endswith("over"):
            shutil.copytree(folder.parent / "old.edge", place / "x.edge")
        status = in_child(partial(failing_at, at, act, watched, work, place / "x.edge"))
        (place / "status").write_text(str(status))
        if status == DONE:
            return


def failing_at(
    at: int, act: Callable[[str], None], watched: tuple[str, ...], work: Callable[[Path], None], output: Path
) -> None:
    steps = Steps(at, act, watched)
    steps.install()
    work(output)
    steps.active = False
    if steps.count >= at:
        os._exit(TOLERATED)


def kills(folder: Path, draw: random.Random) -> None:
    """Children that seal two bundles over one another for ever, each killed after a random time."""
    output = folder / "x.edge"
    sources = (folder.parent / "old.edge", folder.parent / "new.edge")

    def for_ever(turn: int) -> None:
        os.write(started, b"x")
        while True:
            export(sources[turn % 2], output)
            turn += 1

    ready, started = os.pipe()
    for position in range(KILLS):
        if position == KILLS // 2:
            shutil.rmtree(output, ignore_errors=True)
        pid = os.fork()
        if pid == 0:
            for_ever(position)
        os.read(ready, 1)
        time.sleep(draw.uniform(0, LONGEST_S))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left = [path.name for path in folder.iterdir() if path.name.endswith(".partial")]
        print(json.dumps({"state": state(output, folder.parent), "left": len(left)}))


def main(mode: str, folder: Path) -> None:
    new = folder.parent / "new.edge"
    open_bundle(new)  # builds the converter of manifests, once for all children
    if mode == "kills":
        kills(folder, random.Random(SEED))
    elif mode == "crashes":
        each_step(folder, exit_now, lambda output: export(new, output), WATCHED)
    elif mode == "aside":
        paths._exchange = lambda left, right: False
        each_step(folder, exit_now, lambda output: export(new, output), WATCHED)
    elif mode == "errors":
        write_steps = ("os.mkdir", "os.rename", "os.chmod")
        each_step(folder, no_space, lambda output: export(new, output), write_steps)
    elif mode == "limit":
        for size in (0, 1, 64, 1000, 2000):
            place = folder / str(size)
            place.mkdir()
            shutil.copytree(folder.parent / "old.edge", place / "x.edge")

            def limited(size: int = size, place: Path = place) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                export(new, place / "x.edge")

            (place / "status").write_text(str(in_child(limited)))


def state(output: Path, sources: Path) -> str:
    """``old``, ``new`` or ``none``; anything else is what this file is about."""
    if not output.exists():
        return "none"
    try:
        found = open_bundle(output).manifest_sha256
    except BundleError as error:
        return f"broken: {error}"
    known = {open_bundle(sources / f"{name}.edge").manifest_sha256: name for name in ("old", "new")}
    return known.get(found, "another")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))


# What is left.


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with ``old.edge`` and ``new.edge``."""
    pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
    for name, labels in (("old", ("yes", "no")), ("new", ("cat", "dog", "fox"))):
        os.rename(make_tiny_bundle(tmp_path, labels=labels), tmp_path / f"{name}.edge")
    return tmp_path


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repairing hundreds of crashes needs no disk: what is tested here is not the power supply."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def run(mode: str, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_crash", mode, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def places(folder: Path) -> Iterator[tuple[Path, int]]:
    for place in sorted(folder.iterdir()):
        yield place, int((place / "status").read_text())


def partials(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


def test_killed_at_any_moment(sources: Path) -> None:
    print(f"seed {SEED}")
    rows = run("kills", sources / "kills")
    assert len(rows) == KILLS >= 40
    assert {row["state"] for row in rows} <= {"old", "new", "none"}
    assert max(row["left"] for row in rows) <= 1, "each export removes what the killed one before it left"
    assert Counter(row["left"] for row in rows)[1] > 0, "no kill hit an unfinished export"
    export(sources / "new.edge", sources / "kills" / "x.edge")
    assert partials(sources / "kills") == []


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [("crashes", {"old", "new"}), ("aside", {"old", "new", "none"})],
    ids=["exchange", "no exchange in this file system"],
)
def test_crashed_at_every_step_over_an_older_bundle(sources: Path, unsynced: None, mode: str, allowed: set[str]) -> None:
    folder = sources / f"{mode}-over"
    run(mode, folder)
    found = Counter()
    for place, status in places(folder):
        found[state(place / "x.edge", sources), status] += 1
        export(sources / "new.edge", place / "x.edge")
        assert partials(place) == []
    assert {name for name, _ in found} == allowed
    assert found["old", CRASHED] > 20
    assert found["new", CRASHED] > 3, "the older bundle is removed after the exchange, step by step"
    assert found["new", DONE] == 1


def test_crashed_at_every_step_where_there_was_none(sources: Path, unsynced: None) -> None:
    folder = sources / "crashes"
    run("crashes", folder)
    found = Counter()
    for place, status in places(folder):
        found[state(place / "x.edge", sources), status] += 1
        export(sources / "new.edge", place / "x.edge")
        assert partials(place) == []
    assert {name for name, _ in found} == {"none", "new"}
    assert found["none", CRASHED] > 20


@pytest.mark.parametrize("name", ["errors-over", "errors"])
def test_no_space_at_every_step(sources: Path, name: str) -> None:
    folder = sources / name
    run("errors", folder)
    before = "old" if name.endswith("over") else "none"
    found = Counter()
    for place, status in places(folder):
        assert partials(place) == []
        found[status, state(place / "x.edge", sources)] += 1
    assert found[REFUSED, before] > 10
    assert set(found) <= {(REFUSED, before), (REFUSED, "new"), (TOLERATED, "new"), (DONE, "new")}
    assert found[REFUSED, "new"] <= 2, "only the last fsync, of the folder around it, fails with the new one in place"


def test_files_that_may_not_grow(sources: Path) -> None:
    """EFBIG from the kernel itself, at sizes that cut the model, the manifest or its hash."""
    folder = sources / "limit"
    run("limit", folder)
    for place, status in places(folder):
        assert (status, state(place / "x.edge", sources), partials(place)) == (REFUSED, "old", []), place.name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(sources: Path, small_disk: Path) -> None:
    output = small_disk / "x.edge"
    export(sources / "old.edge", output)
    for kilobytes in (0, 4, 8):
        filler = small_disk / "filler"
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(max(0, free - (kilobytes << 10))))
        with pytest.raises(OutputError, match="No space left on device"):
            export(sources / "new.edge", output)
        assert state(output, sources) == "old"
        assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "x.edge"]
        filler.unlink()
    export(sources / "new.edge", output)
    assert state(output, sources) == "new"


# The parts.


def test_unfinished_work_of_living_processes_and_other_outputs_is_kept(sources: Path) -> None:
    living = [f".x.edge.{os.getpid()}.abc.partial", ".x.edge.1.abc.partial"]
    foreign = [".y.edge.999999999.abc.partial", ".x.edge.notes.partial", ".x.edge.²3.partial", "x.edge.999999999.partial"]
    stale = [".x.edge.999999999.abc.partial", f".x.edge.{1 << 80}.abc.partial", ".x.edge.999999999.old.partial"]
    for name in (*living, *foreign, *stale):
        (sources / name / "inside").mkdir(parents=True)
    export(sources / "new.edge", sources / "x.edge")
    left = {path.name for path in sources.iterdir()}
    assert left == {"old.edge", "new.edge", "x.edge", *living, *foreign}


def test_a_stale_link_is_removed_and_not_followed(sources: Path) -> None:
    (sources / "precious").mkdir()
    (sources / "precious" / "file").touch()
    (sources / ".x.edge.999999999.partial").symlink_to(sources / "precious")
    export(sources / "new.edge", sources / "x.edge")
    assert (sources / "precious" / "file").exists()
    assert partials(sources) == []


def test_odd_names_are_no_patterns(sources: Path) -> None:
    (sources / ".[xy]*.edge.999999999.partial").mkdir()
    (sources / ".xy.edge.999999999.partial").mkdir()
    export(sources / "new.edge", sources / "[xy]*.edge")
    assert partials(sources) == [".xy.edge.999999999.partial"]


def test_a_folder_that_is_not_there_is_an_output_error(sources: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; create it first"):
        export(sources / "new.edge", sources / "missing" / "x.edge")
    with pytest.raises(OutputError, match="does not exist"):
        export(sources / "new.edge", sources / "new.edge" / "labels.txt" / "x.edge")


def test_a_name_that_is_too_long_is_an_output_error(sources: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        export(sources / "new.edge", sources / ("n" * 250 + ".edge"))


def test_an_error_inside_the_work_removes_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), partial_folder(tmp_path / "x.edge") as folder:
        (folder / "file").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["a file", "a link to nowhere"])
def test_a_folder_takes_no_other_place(sources: Path, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = sources / "x.edge"
    output.symlink_to("nowhere") if there == "a link to nowhere" else output.write_bytes(b"keep")
    monkeypatch.setattr(paths, "_exchange", lambda left, right: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    with pytest.raises(OutputError, match="cannot put the bundle"):
        export(sources / "new.edge", output)
    assert output.is_symlink() or output.read_bytes() == b"keep"
    assert partials(sources) == []


def test_a_failed_second_step_puts_the_old_bundle_back(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = sources / "x.edge"
    export(sources / "old.edge", output)
    rename = os.rename

    def refuse(source: Any, target: Any) -> None:
        if Path(target) == output and not Path(source).name.endswith(".old.partial"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(paths, "_exchange", lambda left, right: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        export(sources / "new.edge", output)
    assert state(output, sources) == "old"
    assert partials(sources) == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_exchange_steps_aside(
    sources: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class NoExchange:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        @staticmethod
        def renameat2(*_: object) -> int:
            return -1

    monkeypatch.setattr(paths.ctypes, "CDLL", NoExchange)
    monkeypatch.setattr(paths.ctypes, "get_errno", lambda: code)
    export(sources / "old.edge", sources / "x.edge")
    export(sources / "new.edge", sources / "x.edge")
    assert state(sources / "x.edge", sources) == "new"
    assert partials(sources) == []


def test_a_written_file_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_file(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: no_space(""))
    with pytest.raises(OutputError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/x", "file/x", "folder", "n" * 300])
def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / name, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_putting_in_place_needs_no_old_bundle(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    put_in_place(tmp_path / "made", tmp_path / "x.edge")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "new").touch()
    put_in_place(tmp_path / "made", tmp_path / "x.edge")
    assert (tmp_path / "x.edge" / "new").exists()


def test_steps_are_counted_at_all(tmp_path: Path) -> None:
    """The crashes above are as many as there are steps: the wrapper must see them."""
    seen: list[str] = []
    steps = Steps(1, seen.append)
    steps.active = True
    for event in ("open", "os.rename", "os.scandir", "import", "shutil.rmtree"):
        steps.audit(event, ())
    assert (seen, steps.count) == (["open"], 3)

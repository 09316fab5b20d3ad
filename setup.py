"""Builds the native library with CMake and puts it beside ``edgewright_runtime``, with its sources for build-runtime."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

HERE = Path(__file__).parent.resolve()
PACKAGE = "edgewright_runtime"
SOURCES = {".c", ".cpp", ".h", ".inc", ".txt", ".cmake"}
WEB = ("runtime/web", "apps/web_demo/page")
WEB_SOURCES = {".c", ".cmake", ".css", ".html", ".js", ".json", ".svg", ".ts"}
LIBRARY = {"darwin": "libedgewright.dylib", "win32": "edgewright.dll"}.get(sys.platform, "libedgewright.so")


class BuildNative(Command):
    """A sub-command of ``build``; an editable install puts the library into the source folder."""

    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None
        self.build_temp = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"), ("build_temp", "build_temp"))

    def run(self) -> None:
        work = Path(self.build_temp) / "native"
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cmake", "-S", str(HERE / "runtime/native"), "-B", str(work)], check=True)
        subprocess.run(["cmake", "--build", str(work), "--config", "Release", "--parallel", "2"], check=True)
        _put(next(work.rglob(LIBRARY)), self._target())
        for source, target in self._copies().items():
            _put(HERE / source, target)

    def get_source_files(self) -> list:
        folders = (HERE / "runtime/native", HERE / "runtime/shims", HERE / "kernels_arm")
        files = [path for folder in folders for path in folder.rglob("*") if path.suffix in SOURCES]
        files += [path for folder in WEB for path in (HERE / folder).iterdir() if path.suffix in WEB_SOURCES]
        found = [str(path.relative_to(HERE)) for path in files]
        return ["LICENSE", *sorted(found)]

    def get_outputs(self) -> list:
        return [str(self._target()), *(str(target) for target in self._copies().values())]

    def get_output_mapping(self) -> dict:
        return {}

    def _target(self) -> Path:
        folder = HERE / "runtime" / PACKAGE if self.editable_mode else Path(self.build_lib) / PACKAGE
        return folder / LIBRARY

    def _copies(self) -> dict:
        """Where each source goes; an editable install has them where they are."""
        folder = Path(self.build_lib) / PACKAGE / "source"
        return {} if self.editable_mode else {source: folder / source for source in self.get_source_files()}


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


class PlatformDistribution(Distribution):
    """Holds a library of the machine, though no extension module."""

    def has_ext_modules(self) -> bool:
        return True


class PlatformWheel(bdist_wheel):
    """One wheel a platform for every Python, since the library is opened by ctypes."""

    def get_tag(self) -> tuple:
        return ("py3", "none", super().get_tag()[2])


build.sub_commands.append(("build_native", None))
setup(
    distclass=PlatformDistribution,
    cmdclass={"build_native": BuildNative, "bdist_wheel": PlatformWheel},
)

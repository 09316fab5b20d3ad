"""Builds the native library with CMake and puts it beside ``edgewright_runtime``."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

HERE = Path(__file__).parent.resolve()
PACKAGE = "edgewright_runtime"
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
        target = self._target()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(next(work.rglob(LIBRARY)), partial)
        partial.replace(target)

    def get_source_files(self) -> list:
        folders = (HERE / "runtime/native", HERE / "kernels_arm")
        files = (path for folder in folders for path in folder.rglob("*"))
        return [str(path.relative_to(HERE)) for path in files if path.suffix in {".c", ".h", ".inc", ".txt"}]

    def get_outputs(self) -> list:
        return [str(self._target())]

    def get_output_mapping(self) -> dict:
        return {}

    def _target(self) -> Path:
        folder = HERE / "runtime" / PACKAGE if self.editable_mode else Path(self.build_lib) / PACKAGE
        return folder / LIBRARY


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

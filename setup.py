"""The CPU kernels: built, and carried by the wheel, where there is something to build them with.

All else is in pyproject.toml.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PACKAGE, FOLDER = "runtimes.kernels", "lib"


@cache
def build_kernels() -> bool:
    """Whether there is a library for this machine now. Installing goes on without."""
    done = subprocess.run(["sh", "scripts/kernels"], cwd=Path(__file__).parent, check=False)
    return done.returncode == 0


class BuildPython(build_py):
    """Adds the library to the package."""

    def run(self) -> None:
        """Build it first."""
        if build_kernels():
            self.package_data = {**self.package_data, PACKAGE: [f"{FOLDER}/*.so"]}
        else:
            # One of an earlier build, perhaps for another machine.
            shutil.rmtree(Path(self.build_lib, *PACKAGE.split("."), FOLDER), ignore_errors=True)
        super().run()


class Wheel(bdist_wheel):
    """A wheel with the library is for one kind of machine, and for any Python."""

    def run(self) -> None:
        """Build the library first: the wheel's name depends on it."""
        if build_kernels():
            self.root_is_pure = False
            self.distribution.has_ext_modules = lambda: True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform that the wheel is for."""
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


setup(cmdclass={"build_py": BuildPython, "bdist_wheel": Wheel})

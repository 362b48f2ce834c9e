"""Packages made by hand, for a wheelhouse: a wheel is a zip with a few text files beside its modules."""

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

_BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/WHEEL_NAME", "w") as file:
        for name, text in FILES.items():
            file.writestr(name, text)
    return "WHEEL_NAME"
"""


def make_wheel(
    folder: Path, name: str, version: str, files: dict[str, str], requires: Sequence[str] = (), scripts: str = ""
) -> Path:
    """A wheel in `folder`. `scripts` are lines of console scripts: "name = module:function"."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for inner, text in _contents(name, version, files, requires, scripts).items():
            file.writestr(inner, text)
    path.chmod(0o644)
    return path


def make_source(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A source archive in `folder` that builds its wheel with a backend of its own, so that building needs no other."""
    path = folder / f"{name}-{version}.tar.gz"
    backend = f"FILES = {_contents(name, version, files, (), '')!r}\n{_BACKEND}"
    inside = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend.replace("WHEEL_NAME", f"{name}-{version}-py3-none-any.whl"),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in inside.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{inner}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    path.chmod(0o644)
    return path


def _contents(name: str, version: str, files: dict[str, str], requires: Sequence[str], scripts: str) -> dict[str, str]:
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **({f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}\n"} if scripts else {}),
    }
    record = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    return {**contents, f"{info}/RECORD": record}

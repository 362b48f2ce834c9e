"""The first code of a container, given to its Python with `-c`: takes the rest of the code from standard input.

Nothing of ours need be in the image or on the engine's machine, and the code is always that of the server. The first
frame is `{"files": {path: source}, "start": module, "options": {...}}`; `start` has a `main(options)`. All that it
needs is imported before that runs; from then on nothing of ours can be imported, nor its text be read.
"""

import importlib
import json
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import FunctionType, ModuleType
from typing import Any

_ROOT = "/run/sandbox"


class Shipped:
    """Finds and loads modules from the sources that were sent."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        stem = name.replace(".", "/")
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in self._files:
                package = file.endswith("__init__.py")
                return spec_from_loader(name, self, origin=f"{_ROOT}/{file}", is_package=package)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        origin = str(module.__spec__ and module.__spec__.origin)
        module.__file__ = origin
        exec(compile(self._files[origin.removeprefix(f"{_ROOT}/")], origin, "exec"), module.__dict__)


def load(files: dict[str, str], start: str) -> FunctionType:
    """`main` of the module `start`. Empties `files`."""
    shipped = Shipped(files)
    sys.meta_path.append(shipped)
    main: FunctionType = importlib.import_module(start).main
    sys.meta_path.remove(shipped)
    for name in [name for name, module in sys.modules.items() if getattr(module, "__loader__", None) is shipped]:
        del sys.modules[name]
    files.clear()
    return main


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path]
    message = json.loads(read(int.from_bytes(read(4), "big")))
    load(message.pop("files"), message["start"])(message.pop("options"))

"""How the Docker backend is set up: built in code, or read from a TOML file.

engine = "unix:///run/user/1000/docker.sock"   # else DOCKER_HOST and its companions, else the local engine
image = "med-copilot-sandbox@sha256:..."       # a name, a digest or an image id
runtime = "runsc"                              # else the engine's own
cpus = 2.0

[images]                                       # other images by data set; * and ? match, the first match holds
"biocoder*" = "med-copilot-biocoder@sha256:..."

[sources]                                      # where a data set lies on the engine's machine, if elsewhere
"mimic_iii" = "/srv/data/mimic_iii/public"
"""

import os
import tomllib
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxUnavailable

VARIABLE = "MED_COPILOT_DOCKER"
"""Names the configuration file."""


@dataclass(frozen=True)
class DockerOptions:
    """`user` is "uid:gid" inside; None means an ordinary server's own, so that it can read the data, and 1000:1000 for
    root's. `max_age` (seconds): older containers of ours are removed, whoever started them; no session lives longer.
    `binds` are (host path, path inside) and `environment` variables, for images that lack something. `python` is the
    interpreter inside. `covers` are folders inside that are hidden by an empty one.
    """

    image: str = "med-copilot-sandbox"
    images: dict[str, str] = field(default_factory=dict)
    engine: str | None = None
    runtime: str | None = None
    cpus: float = 1.0
    user: str | None = None
    python: str = "python3"
    sources: dict[str, str] = field(default_factory=dict)
    binds: tuple[tuple[str, str], ...] = ()
    covers: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    max_age: float = 24 * 3600.0

    def image_for(self, source: str | None) -> str:
        """The image for sessions on a data set, or for those without data."""
        found = (image for pattern, image in self.images.items() if source and fnmatchcase(source, pattern))
        return next(found, self.image)


_FILE_KEYS = {"image": str, "engine": str, "runtime": str, "user": str, "python": str, "cpus": float, "max_age": float}


def read_options(path: Path) -> DockerOptions:
    """The options in a TOML file. Raises SandboxUnavailable, with what is wrong in it."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SandboxUnavailable(f"The Docker sandbox's configuration {path} cannot be read: {error}") from error
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in ("images", "sources"):
            if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
                raise SandboxUnavailable(f"{path}: [{key}] must map names to texts.")
            values[key] = value
        elif key in _FILE_KEYS:
            wanted = _FILE_KEYS[key]
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if not isinstance(value, wanted):
                raise SandboxUnavailable(f"{path}: {key} must be a {'number' if wanted is float else 'text'}.")
            values[key] = value
        else:
            known = ", ".join([*_FILE_KEYS, "[images]", "[sources]"])
            raise SandboxUnavailable(f"{path}: unknown key {key!r}. Known are: {known}.")
    assert set(values) <= {entry.name for entry in fields(DockerOptions)}
    return DockerOptions(**values)


def options_from_environment() -> DockerOptions:
    """What the file named by MED_COPILOT_DOCKER says, or the defaults. Raises SandboxUnavailable."""
    name = os.environ.get(VARIABLE)
    return read_options(Path(name)) if name else DockerOptions()

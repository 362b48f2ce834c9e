"""Parts of the Docker sandbox that need no engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.base import Limits, SandboxConfig
from sandbox.docker_engine import container
from sandbox.docker_engine.engine import OWNER, orphaned
from sandbox.docker_engine.options import VARIABLE, DockerOptions, options_from_environment, read_options
from sandbox.docker_engine.owner import own_label, owner_lives
from sandbox.docker_engine.streams import Streams
from sandbox.errors import SandboxUnavailable
from sandbox.wire import WireError


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), st.lists(st.integers(1, 30)))
def test_streams_are_taken_apart_wherever_they_are_cut(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in parts)
    streams, seen = Streams(), {1: b"", 2: b""}
    for cut in [*cuts, len(whole)]:
        piece, whole = whole[:cut], whole[cut:]
        for stream, data in streams.feed(piece):
            seen[stream] += data
    for stream, data in streams.feed(whole):
        seen[stream] += data
    assert seen == {number: b"".join(data for stream, data in parts if stream == number) for number in (1, 2)}


@given(st.binary(min_size=8, max_size=8).filter(lambda head: head[0] not in (1, 2) or head[1:4] != b"\0\0\0"))
def test_a_stream_out_of_step_is_refused(head: bytes) -> None:
    with pytest.raises(WireError):
        Streams().feed(head)


def test_options_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.toml"
    path.write_text(
        'image = "base@sha256:00"\nruntime = "runsc"\ncpus = 2\n'
        '[images]\n"biocoder*" = "bio@sha256:11"\n"*" = "other"\n[sources]\nmimic = "/srv/mimic"\n'
    )
    monkeypatch.setenv(VARIABLE, str(path))
    options = options_from_environment()
    assert (options.runtime, options.cpus, options.sources) == ("runsc", 2.0, {"mimic": "/srv/mimic"})
    assert options.image_for("biocoder_x") == "bio@sha256:11"
    assert options.image_for("mimic") == "other"
    assert options.image_for(None) == "base@sha256:00"
    monkeypatch.delenv(VARIABLE)
    assert options_from_environment() == DockerOptions()


@pytest.mark.parametrize("text", ["imag = 'x'", "cpus = 'x'", "image = 1", "[images]\na = 1", "images = 'x'", "x ="])
def test_a_wrong_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "docker.toml").write_text(text)
    with pytest.raises(SandboxUnavailable, match=r"docker\.toml"):
        read_options(tmp_path / "docker.toml")


def test_request_to_the_engine(tmp_path: Path) -> None:
    config = SandboxConfig(sources={"a": tmp_path, "b": tmp_path}, wheelhouse=tmp_path)
    options = DockerOptions(runtime="runsc", sources={"b": "/srv/b"}, cpus=1.5, user="7:8")
    kind = container.Kind.of("b", Limits(memory=123 << 20, processes=9))
    made = container.request(kind, "sha256:11", config, options, "me")
    host = made["HostConfig"]
    assert (host["Runtime"], host["NanoCpus"], host["Memory"], host["PidsLimit"]) == ("runsc", 1500000000, 123 << 20, 9)
    assert (made["Image"], made["User"], made["Labels"][OWNER]) == ("sha256:11", "7:8", "me")
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in host["Mounts"]}
    assert mounts == {"/data": ("/srv/b", True), "/wheels": (str(tmp_path.resolve()), True)}
    assert "PYTHONHASHSEED=0" in made["Env"]
    none = container.request(container.Kind.of(None, Limits()), "i", config, DockerOptions(), "me")
    assert "/data" in none["HostConfig"]["Tmpfs"]
    assert "Runtime" not in none["HostConfig"]


def test_one_container_serves_all_specs_of_its_kind() -> None:
    assert container.Kind.of("a", Limits(output=5)) == container.Kind.of("a", Limits(call_seconds=9))
    assert container.Kind.of("a", Limits(memory=5)) != container.Kind.of("a", Limits())
    assert container.Kind.of("a", Limits()) != container.Kind.of("b", Limits())


def test_what_is_sent_holds_nothing_but_session_code() -> None:
    payload = container.payload(container.Kind.of(None, Limits()), SandboxConfig())
    keeper, interpreter = payload["files"], payload["options"]["begin"]["files"]
    assert {name.split("/")[0] for name in [*keeper, *interpreter]} == {"sandbox"}
    assert len(json.dumps(payload)) < 1 << 20
    assert "sandbox/interpreter/main.py" in interpreter
    assert "sandbox/docker_engine/keeper.py" not in interpreter
    assert not [name for name in [*keeper, *interpreter] if "backend" in name or "plan" in name]


def test_owner_lives() -> None:
    label = own_label()
    assert owner_lives(label) is True
    assert own_label() != label
    assert owner_lives("elsewhere/pid:[1]/1/1/x") is None
    assert owner_lives("nonsense") is None
    program = "from sandbox.docker_engine.owner import own_label; print(own_label())"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert owner_lives(done.stdout.strip()) is False
    parts = label.split("/")
    parts[-2] = "1"
    assert owner_lives("/".join(parts)) is False
    assert str(os.getpid()) in parts


def test_orphans() -> None:
    def entry(owner: str, age: float, state: str = "running") -> dict[str, object]:
        return {"Labels": {OWNER: owner}, "Created": 1000.0 - age, "State": state}

    lives = {"alive": True, "dead": False}.get
    cases = [
        (entry("me", 900, "exited"), False),
        (entry("alive", 50), False),
        (entry("alive", 50, "created"), False),
        (entry("alive", 90, "exited"), True),
        (entry("alive", 900), True),
        (entry("dead", 1), True),
        (entry("unknown", 50), False),
    ]
    for listed, wanted in cases:
        assert orphaned(listed, 1000.0, "me", 600.0, lives) is wanted, listed

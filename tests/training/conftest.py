"""One generated hospital, and the attempts made in it, for all tests of this folder."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tasks.data import DataRoot
from tests.training import corpus

# What the libraries below us warn of, by their own doing.
NOISE = ("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for text in NOISE:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return corpus.generate(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="session")
def expert(hospital: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the expert's attempts at train tasks."""
    folder = tmp_path_factory.mktemp("expert")
    anyio.run(corpus.expert_records, hospital, folder, corpus.chosen(hospital, "train"))
    return folder


@pytest.fixture(scope="session")
def foreign(hospital: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a foreign client's attempts at train tasks."""
    folder = tmp_path_factory.mktemp("foreign")
    anyio.run(corpus.foreign_records, hospital, folder, corpus.chosen(hospital, "train", 3))
    return folder


@pytest.fixture(scope="session")
def small(expert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """(folder, tokenizer, model) of a small model of ours."""
    from training.data import load

    folder = tmp_path_factory.mktemp("small")
    return (folder, *corpus.small(load([expert]), folder))

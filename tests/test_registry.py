"""Registry: the file's name is the method's name, and nothing else registers it."""

import os
import pickle
import subprocess
import sys
import textwrap
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import plugin_folder
import pytest

from curate import registry
from curate.errors import ConfigError
from curate.registry import Registry

ROOT = Path(__file__).parents[1]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plug-ins; nothing is built in."""
    monkeypatch.setattr(registry, "_builtin", lambda package: ())
    return plugin_folder.write_plugins(tmp_path / "mine")


def test_names_are_file_names_sorted(plugins: Path) -> None:
    assert Registry((plugins,)).names("scorers") == ["toy_plain", "toy_words"]


def test_a_class_is_found_by_its_file_name(plugins: Path) -> None:
    method = Registry((plugins,)).get("scorers", "toy_words")
    assert (method.__name__, method.method_name()) == ("ToyWords", "toy_words")


def test_names_import_nothing(plugins: Path) -> None:
    (plugins / "scorers" / "broken.py").write_text("raise RuntimeError\n")
    assert "broken" in Registry((plugins,)).names("scorers")


def test_private_files_are_no_methods(plugins: Path) -> None:
    (plugins / "scorers" / "_shared.py").write_text("")
    assert "_shared" not in Registry((plugins,)).names("scorers")


def test_one_class_however_often_asked(plugins: Path) -> None:
    assert Registry((plugins,)).get("scorers", "toy_plain") is Registry((plugins,)).get(
        "scorers", "toy_plain"
    )


def test_a_plugin_pickles(plugins: Path) -> None:
    method = Registry((plugins,)).get("scorers", "toy_words")(rate=2.0)
    assert pickle.loads(pickle.dumps(method)) == method


def test_unknown_name_has_a_suggestion(plugins: Path) -> None:
    with pytest.raises(ConfigError, match="unknown scorer name `toy_word`. Did you mean `toy_words`?"):
        Registry((plugins,)).get("scorers", "toy_word")


def test_unknown_name_like_no_other_lists_the_known(plugins: Path) -> None:
    with pytest.raises(ConfigError, match=r"Known: toy_plain, toy_words\."):
        Registry((plugins,)).get("scorers", "zzz")


def test_a_name_in_two_places_is_refused(plugins: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "scorers"
    other.mkdir(parents=True)
    (other / "toy_plain.py").write_text("")
    with pytest.raises(ConfigError, match=r"`toy_plain` is defined in .*mine.* and in .*other.*Rename one"):
        Registry((plugins, tmp_path / "other")).names("scorers")


def test_a_built_in_name_cannot_be_taken(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builtin", lambda package: ("toy_plain",))
    with pytest.raises(ConfigError, match="defined in scorers and in"):
        Registry((plugins,)).get("scorers", "toy_plain")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "none"),
        ("from curate.component import Component\n", "none"),
        (
            "from curate.component import Component\nclass A(Component): pass\nclass B(Component): pass\n",
            "A, B",
        ),
    ],
)
def test_a_file_has_one_public_component(plugins: Path, text: str, found: str) -> None:
    (plugins / "scorers" / "odd.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"odd\.py: expected one public component class. Found {found}"):
        Registry((plugins,)).get("scorers", "odd")


def test_private_and_abstract_classes_do_not_count(plugins: Path) -> None:
    (plugins / "scorers" / "one.py").write_text(
        "from abc import ABC, abstractmethod\n"
        "from curate.component import Component\n"
        "class Base(Component, ABC):\n    @abstractmethod\n    def f(self): ...\n"
        "class _Hidden(Component): pass\n"
        "class One(Component): pass\n"
    )
    assert Registry((plugins,)).get("scorers", "one").__name__ == "One"


def test_a_broken_plugin_is_named_with_its_cause(plugins: Path) -> None:
    (plugins / "scorers" / "broken.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(ConfigError, match=r"broken\.py: cannot be imported\. ModuleNotFoundError: No module"):
        Registry((plugins,)).get("scorers", "broken")


def test_a_broken_plugin_leaves_no_half_module(plugins: Path) -> None:
    (plugins / "scorers" / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError):
        Registry((plugins,)).get("scorers", "broken")
    assert not [name for name in sys.modules if name.endswith(".scorers.broken")]


def test_two_folders_may_hold_different_methods_of_one_name(plugins: Path, tmp_path: Path) -> None:
    other = plugin_folder.write_plugins(tmp_path / "other")
    first, second = (Registry((folder,)).get("scorers", "toy_words")(rate=2.0) for folder in (plugins, other))
    assert type(first) is not type(second)
    assert pickle.loads(pickle.dumps([first, second])) == [first, second]


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed package offers `toy_far` and, wrongly named, `toy_wrong`."""
    package = tmp_path / "far_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = plugin_folder.FILES["scorers/toy_plain.py"]
    (package / "toy_far.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = [
        EntryPoint("toy_far", "far_package.toy_far", "curate.scorers"),
        EntryPoint("toy_wrong", "far_package.toy_far", "curate.scorers"),
    ]

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in offered if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_is_a_method(plugins: Path) -> None:
    assert "toy_far" in Registry().names("scorers")
    assert Registry().get("scorers", "toy_far").method_name() == "toy_far"


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_must_be_named_as_its_file(plugins: Path) -> None:
    with pytest.raises(ConfigError, match="`toy_wrong` leads to a file named `toy_far`"):
        Registry().get("scorers", "toy_wrong")


@pytest.mark.parametrize("kind", sorted(registry.PACKAGES))
def test_every_built_in_package_is_ours(kind: str) -> None:
    assert registry._folder(registry.PACKAGES[kind]).is_relative_to(ROOT)


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python as in a notebook: the working directory comes first on its path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ["scorers", "pipelines"])
@pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py"])
def test_a_shadowing_package_is_named(tmp_path: Path, package: str, form: str) -> None:
    file = tmp_path / form.format(package)
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    done = run_in(tmp_path, "from curate.cli import main; main(['list', 'scorers'])")
    assert done.returncode == 2
    assert f"`{package}` is imported from {tmp_path / package}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_notebook_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers" / "__init__.py").write_text("")
    done = run_in(tmp_path, "from curate.registry import Registry; Registry().names('scorers')")
    assert f"which shadows curate's own in {ROOT / 'scorers'}" in done.stderr


def test_a_folder_without_init_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "scorers").mkdir()
    done = run_in(tmp_path, "from curate.registry import check_installation; check_installation()")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_of_ours_that_fails_is_no_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builtin", lambda package: ("no_such_method",))
    with pytest.raises(ModuleNotFoundError):
        Registry().get("scorers", "no_such_method")


def test_the_module_is_what_defines_the_component(plugins: Path) -> None:
    module = types.ModuleType("made")
    module.__file__ = "made.py"
    module.ToyWords = Registry((plugins,)).get("scorers", "toy_words")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="Found none"):
        registry._component(module)

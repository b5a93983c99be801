"""Configuration: what is read, what is refused, and where each message points."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import plugin_folder
import pytest
from pydantic import BaseModel, Field, ValidationError

import curate.methods
from curate import phrases
from curate.budget import Budget
from curate.component import Component
from curate.config import LoadedConfig, dump_config, load_config, read_config
from curate.errors import ConfigError, Problem
from curate.marks import Marks
from curate.methods import MethodOf
from curate.registry import Registry
from curate.schema import json_schema
from curate.settings import ModelSpec, Resources
from curate.yaml_document import parse_yaml

HEAD = "name: demo\nplugins: [mine]\npipeline: toy_once\nsources: [{name: chat, path: chat.jsonl}]\n"
"""Four valid lines; tests add `stages:` from line 5 on."""
STAGES = "stages: [{score: toy_words}]\n"


class ToyTrain(Component):
    """Stands for the component of `train`."""

    adapter: Annotated[Component, MethodOf("adapters")] = Field(
        default="toy_rank", validate_default=True, description="what is tuned"
    )
    teacher: ModelSpec | None = Field(default=None, description="a second model")
    epochs: float = Field(default=1.0, gt=0, description="passes over the data")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `mine` holds plug-ins."""
    folder = tmp_path_factory.mktemp("config")
    plugin_folder.write_plugins(folder / "mine")
    return folder


@pytest.fixture(autouse=True)
def toy_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` and `evaluate` are ToyTrain."""
    monkeypatch.setattr(curate.methods, "stage_class", lambda kind: ToyTrain)
    monkeypatch.setattr("curate.spec.stage_class", lambda kind: ToyTrain)
    monkeypatch.setattr("curate.schema.stage_class", lambda kind: ToyTrain)


def load(folder: Path, text: str, *overrides: str) -> LoadedConfig:
    file = folder / "run.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return load_config(file, overrides)


def refused(folder: Path, text: str, *overrides: str) -> list[str]:
    """The lines of the message, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def said(function: Callable[[str], object], value: str) -> str:
    """The message of the ValueError that a function raises."""
    with pytest.raises(ValueError, match="must") as caught:
        function(value)
    return str(caught.value)


WRONG = [
    # what is wrong, the text, the messages
    (
        "text for an integer",
        HEAD + "seed: one\n" + STAGES,
        ["run.yaml:5:7: seed: must be an integer. Got the text 'one'."],
    ),
    (
        "a quoted integer",
        HEAD + "seed: '2'\n" + STAGES,
        ["run.yaml:5:7: seed: must be an integer. Got the text '2'. Write 2, a number without quotes."],
    ),
    (
        "a number that is not whole",
        HEAD + "stages: [{score: {toy_words: {rows: 1e3}}}]",
        ["run.yaml:5:37: stages[0].score.toy_words.rows: must be an integer. Got 1000.0. Write 1000."],
    ),
    (
        "a quoted float",
        HEAD + "stages:\n- score: {toy_words: {rate: '2e-5'}}",
        [
            ("run.yaml:6:29: stages[0].score.toy_words.rate: must be a number. Got the text '2e-5'. "
            "Write 2e-05, a number without quotes.")
        ],
    ),
    (
        "yes for true",
        HEAD + "stages: [{score: {toy_words: {fast: yes}}}]",
        [
            ("run.yaml:5:37: stages[0].score.toy_words.fast: must be true or false. "
            "Got the text 'yes'. Write true.")
        ],
    ),
    (
        "a number for text",
        "name: 7\n" + HEAD.partition("\n")[2] + STAGES,
        ["run.yaml:1:7: name: must be text. Got 7. Quote it: '7'."],
    ),
    (
        "a bound",
        HEAD + "stages: [{score: {toy_words: {rate: 0}}}]",
        ["run.yaml:5:37: stages[0].score.toy_words.rate: must be greater than 0. Got 0."],
    ),
    (
        "an unknown key at the top",
        HEAD + "sead: 3\n" + STAGES,
        ["run.yaml:5:1: sead: unknown key `sead`. Did you mean `seed`?"],
    ),
    (
        "an unknown key of a source",
        HEAD.replace("path:", "pth:") + STAGES,
        [
            ("run.yaml:4:11: sources[0]: must have `path` (file, glob, folder (save_to_disk), fsspec URL, "
            "or hub:ORG/NAME[:CONFIG][@SPLIT]; relative to the working directory). Got none."),
            "run.yaml:4:24: sources[0].pth: unknown key `pth`. Did you mean `path`?",
        ],
    ),
    (
        "an unknown key of a method",
        HEAD + "stages: [{score: {toy_words: {rat: 1}}}]",
        ["run.yaml:5:31: stages[0].score.toy_words.rat: unknown key `rat`. Did you mean `rate`?"],
    ),
    (
        "an unknown key that is like no other",
        HEAD + "stages: [{score: {toy_words: {zzz: 1}}}]",
        ["run.yaml:5:31: stages[0].score.toy_words.zzz: unknown key `zzz`. Known: rate, rows, fast."],
    ),
    (
        "an unknown method",
        HEAD + "stages:\n- score:\n  - toy_words\n  - toy_plane\n",
        ["run.yaml:8:5: stages[0].score[1]: unknown scorer name `toy_plane`. Did you mean `toy_plain`?"],
    ),
    (
        "an unknown method with fields",
        HEAD + "stages:\n- score: {toy_wrds: {rate: 1}}\n",
        ["run.yaml:6:11: stages[0].score.toy_wrds: unknown scorer name `toy_wrds`. Did you mean `toy_words`?"],
    ),
    (
        "an unknown method without a value",
        HEAD + "stages:\n- score: {toy_wrds: }\n",
        ["run.yaml:6:11: stages[0].score.toy_wrds: unknown scorer name `toy_wrds`. Did you mean `toy_words`?"],
    ),
    (
        "an unknown key beside the nearest known one",
        HEAD + "stages: [{score: toy_words, resources: {gpus: 1, xpus: 2}}]",
        ["run.yaml:5:50: stages[0].resources.xpus: unknown key `xpus`. Did you mean `cpus`?"],
    ),
    (
        "an unknown kind of stage",
        HEAD + "stages:\n- scor: toy_words\n",
        ["run.yaml:6:3: stages[0].scor: unknown key `scor`. Did you mean `score`?"],
    ),
    (
        "two kinds in one element",
        HEAD + "stages:\n- score: toy_words\n  clean: toy_empty\n",
        ["run.yaml:6:3: stages[0]: must have one kind of stage. Got `clean` and `score`. Make each an item of its own."],
    ),
    (
        "an element that is only resources",
        HEAD + "stages:\n- resources: {workers: 1}\n",
        [
            ("run.yaml:6:3: stages[0]: must have one kind of stage (clean, contamination, score, select, embed, cluster, mix, "
            "train, evaluate). Got none.")
        ],
    ),
    (
        "an element that is text",
        HEAD + "stages:\n- score\n",
        [
            ("run.yaml:6:3: stages[0]: must be a mapping of one kind (clean, contamination, score, select, embed, cluster, mix, "
            "train, evaluate). Got the text 'score'.")
        ],
    ),
    (
        "a bad budget",
        HEAD + "stages:\n- select:\n    toy_best: {by: a, budget: ten}\n",
        [
            f"run.yaml:7:31: stages[0].select.toy_best.budget: {said(Budget.parse, 'ten')}"
        ],
    ),
    (
        "a required field",
        HEAD + "stages:\n- select:\n    toy_best: {by: a}\n",
        ["run.yaml:7:5: stages[0].select.toy_best: must have `budget` (how much to keep). Got none."],
    ),
    (
        "a method by name alone that needs fields",
        HEAD + "stages: [{select: toy_best}]",
        [
            "run.yaml:5:19: stages[0].select: must have `by` (score to rank by). Got none.",
            "run.yaml:5:19: stages[0].select: must have `budget` (how much to keep). Got none.",
        ],
    ),
    (
        "a union",
        HEAD + "stages: [{select: {toy_best: {by: a, budget: 1, k: some}}}]",
        ["run.yaml:5:52: stages[0].select.toy_best.k: must be an integer or 'auto'. Got the text 'some'."],
    ),
    (
        "a value inside a mapping of values",
        HEAD + "stages: [{select: {toy_best: {by: a, budget: 1, weights: {chat: much}}}}]",
        ["run.yaml:5:65: stages[0].select.toy_best.weights.chat: must be a number. Got the text 'much'."],
    ),
    (
        "a list where one method stands",
        HEAD + "stages: [{select: [toy_best]}]",
        ["run.yaml:5:11: stages[0].select: must be one method, not a list: `select` takes one."],
    ),
    (
        "an empty list of methods",
        HEAD + "stages: [{score: []}]",
        ["run.yaml:5:11: stages[0].score: must have at least one method. Got an empty list."],
    ),
    (
        "a scorer twice",
        HEAD + "stages: [{score: [toy_words, {toy_words: {rate: 1}}]}]",
        ["run.yaml:5:11: stages[0].score: `toy_words` is listed twice. Remove one."],
    ),
    (
        "two methods in one mapping",
        HEAD + "stages: [{score: {toy_words: {rate: 1}, toy_plain: {}}}]",
        [
            ("run.yaml:5:11: stages[0].score: must be the name of one scorer, or a mapping of its name to its "
            "fields. Got 2 keys: toy_words, toy_plain.")
        ],
    ),
    (
        "a nested method",
        HEAD + "stages: [{train: {adapter: {toy_rank: {r: 0}}}}]",
        [
            "run.yaml:5:43: stages[0].train.adapter.toy_rank.r: must be greater than or equal to 1. Got 0."
        ],
    ),
    (
        "a field of a stage",
        HEAD + "stages: [{train: {epoch: 1}}]",
        ["run.yaml:5:19: stages[0].train.epoch: unknown key `epoch`. Did you mean `epochs`?"],
    ),
    (
        "resources",
        HEAD + "stages: [{score: toy_words, resources: {worker: 2}}]",
        ["run.yaml:5:41: stages[0].resources.worker: unknown key `worker`. Did you mean `workers`?"],
    ),
    (
        "a choice",
        HEAD + "model: {path: m, dtype: float23}\n" + STAGES,
        [
            ("run.yaml:5:25: model.dtype: must be 'auto', 'float32', 'bfloat16' or 'float16'. "
            "Got the text 'float23'. Did you mean `float32`?")
        ],
    ),
    (
        "a share",
        HEAD + "max_bad_fraction: 1.5\n" + STAGES,
        ["run.yaml:5:19: max_bad_fraction: must be less than or equal to 1. Got 1.5."],
    ),
    (
        "the shape of pipeline",
        HEAD.replace("toy_once", "toy_onse") + STAGES,
        ["run.yaml:3:11: pipeline: unknown pipeline name `toy_onse`. Did you mean `toy_once`?"],
    ),
    (
        "a plug-in folder that is not there",
        HEAD.replace("[mine]", "[mine, yours]") + STAGES,
        ["run.yaml:2:17: plugins[1]: must be a folder, relative to the configuration. Got 'yours'."],
    ),
    (
        "two sources of one name",
        HEAD.replace("}]", "}, {name: chat, path: b}]") + STAGES,
        ["run.yaml:4:50: sources[1].name: `chat` names two sources."],
    ),
    (
        "no stages",
        HEAD + "stages: []\n",
        ["run.yaml:5:1: stages: must have at least 1 element. Got []."],
    ),
    (
        "a missing part",
        HEAD,
        ["run.yaml:1:1: must have `stages` (in this order). Got none."],
    ),
    (
        "a key twice",
        HEAD + "seed: 1\n" + STAGES + "seed: 2\n",
        ["run.yaml:7:1: key `seed` is given twice, first on line 5. Remove one."],
    ),
    (
        "a key twice inside",
        HEAD + "stages: [{score: {toy_words: {rate: 1, rate: 2}}}]",
        [
            "run.yaml:5:40: stages[0].score.toy_words: key `rate` is given twice, first on line 5. Remove one."
        ],
    ),
    ("an empty file", "", ["run.yaml:1:1: must be a mapping with name, sources and stages. Got an empty file."]),
    ("a list", "- a\n", ['run.yaml:1:1: must be a mapping with name, sources and stages. Got ["a"].']),
    (
        "a foreign tag",
        HEAD + "seed: !secret x\n" + STAGES,
        [
            "run.yaml:5:7: seed: must be an integer. Got nothing.",
            "run.yaml:5:7: seed: the YAML tag `!secret` is not supported. Remove it.",
        ],
    ),
    (
        "an anchor in itself",
        HEAD + "stages: &s [*s]\n",
        [
            "run.yaml:5:9: stages[0]: an anchor must not contain itself.",
            ("run.yaml:5:9: stages[0]: must be a mapping of one kind (clean, contamination, score, select, embed, cluster, mix, "
            "train, evaluate). Got nothing."),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_said_with_its_place(mine: Path, text: str, messages: list[str]) -> None:
    assert sorted(refused(mine, text)) == sorted(messages)


def test_all_errors_come_at_once_in_the_order_of_the_file(mine: Path) -> None:
    text = (
        HEAD + "seed: x\nsead: 1\nstages:\n- score: nothing_near\n- select: {toy_best: {by: 1, budget: 0}}\n"
    )
    places = [line.split(" ")[0] for line in refused(mine, text)]
    assert places == [f"run.yaml:{place}:" for place in ("5:7", "6:1", "8:10", "9:27", "9:38")]


def test_syntax_is_located(mine: Path) -> None:
    (message,) = refused(mine, "name: demo\nsources: [{name: a\nstages: 3\n")
    assert message.startswith("run.yaml:3:7: not valid YAML: ")


def test_a_tab_is_located(mine: Path) -> None:
    (message,) = refused(mine, "name: demo\nsources:\n\t- a\n")
    assert message.startswith("run.yaml:3:1: not valid YAML: ")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"name: demo\n# \xff\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:2:1: must be UTF-8"):
        load_config(tmp_path / "run.yaml")


def test_a_method_of_another_kind_is_recognised(mine: Path) -> None:
    (message,) = refused(mine, HEAD + "stages: [{score: toy_best}]")
    assert message.endswith("(`toy_best` is among the selectors.)")


# What is read ---------------------------------------------------------------------------------------


def first_method(mine: Path, stage: str) -> Component:
    return load(mine, HEAD + f"stages: [{{{stage}}}]").config.stages[0].methods[0]


@pytest.mark.parametrize("written", ["2e-5", "2E-5", "2.0e-5", "0.00002", "2.e-05", "+2e-5", ".2e-4"])
def test_floats_of_yaml_1_2(mine: Path, written: str) -> None:
    assert first_method(mine, f"score: {{toy_words: {{rate: {written}}}}}").rate == 2e-5


@pytest.mark.parametrize(("written", "value"), [("1_000", 1000), ("0x10", 16), ("0o10", 8), ("010", 10)])
def test_integers(mine: Path, written: str, value: int) -> None:
    assert first_method(mine, f"score: {{toy_words: {{rows: {written}}}}}").rows == value


@pytest.mark.parametrize("written", ["on", "no", "y", "12:30:00", "2024-01-01", "1e", "1.2.3"])
def test_words_stay_text(mine: Path, written: str) -> None:
    assert first_method(mine, f"select: {{toy_best: {{by: {written}, budget: 1}}}}").by == written


def test_an_integer_serves_as_a_number(mine: Path) -> None:
    assert first_method(mine, "score: {toy_words: {rate: 2}}").rate == 2.0


def test_number_keys_are_text(mine: Path) -> None:
    method = first_method(mine, "select: {toy_best: {by: a, budget: 1, weights: {1: 0.5}}}")
    assert method.weights == {"1": 0.5}


@pytest.mark.parametrize("body", ["toy_words", "[toy_words]", "{toy_words: {}}", "{toy_words: }"])
def test_ways_to_write_a_method(mine: Path, body: str) -> None:
    (entry,) = load(mine, HEAD + f"stages: [{{score: {body}}}]").config.stages
    assert (entry.kind, [method.name for method in entry.methods]) == ("score", ["toy_words"])


def test_methods_keep_their_order(mine: Path) -> None:
    (entry,) = load(mine, HEAD + "stages: [{score: [toy_words, toy_plain]}]").config.stages
    assert [method.name for method in entry.methods] == ["toy_words", "toy_plain"]


def test_the_body_of_train_is_its_fields(mine: Path) -> None:
    method = first_method(mine, "train: {epochs: 3, adapter: {toy_rank: {r: 4}}, teacher: big}")
    assert (method.epochs, method.adapter.r, method.teacher) == (3.0, 4, ModelSpec(path="big"))


def test_a_stage_without_body_has_its_defaults(mine: Path) -> None:
    assert first_method(mine, "evaluate: ").epochs == 1.0


def test_resources(mine: Path) -> None:
    (entry,) = load(mine, HEAD + "stages: [{score: toy_words, resources: {workers: 2}}]").config.stages
    assert entry.resources == Resources(workers=2)


def test_a_path_alone_is_a_model_and_a_target(mine: Path) -> None:
    config = load(mine, HEAD + "model: package:m\ntarget: dev.jsonl\n" + STAGES).config
    assert (config.model, config.target and config.target.path) == (ModelSpec(path="package:m"), "dev.jsonl")


def test_a_percentage_is_a_fraction(mine: Path) -> None:
    assert load(mine, HEAD + "max_bad_fraction: 5%\n" + STAGES).config.max_bad_fraction == 0.05


def test_plugins_are_relative_to_the_file(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (mine / "run.yaml").write_text(HEAD + STAGES)
    monkeypatch.chdir(tmp_path)
    assert load_config(mine / "run.yaml").config.plugins == (mine / "mine",)


def test_anchors_and_merges(mine: Path) -> None:
    stages = "stages:\n- score: {toy_words: &w {rate: 3, rows: 2}}\n- score: {toy_words: {<<: *w, rows: 4}}\n"
    method = load(mine, HEAD + stages).config.stages[1].methods[0]
    assert (method.rate, method.rows) == (3.0, 4)


def test_a_merged_value_is_located_where_it_stands(mine: Path) -> None:
    stages = "stages:\n- score: {toy_words: &w {rows: 2}}\n- score: {toy_words: {<<: {rate: x}}}\n"
    (message,) = refused(mine, HEAD + stages)
    assert message.startswith("run.yaml:7:34: stages[1].score.toy_words.rate: must be a number.")


# --set ----------------------------------------------------------------------------------------------

CASCADE = """\
stages:
- score: toy_words
- select: {toy_best: {by: toy_words, budget: 50%}}
- score: [toy_plain, {toy_words: {rate: 1}}]
- train: {epochs: 2}
"""


@pytest.mark.parametrize(
    ("argument", "place", "value"),
    [
        ("seed=7", lambda c: c.seed, 7),
        ("tokens.max_tokens=64", lambda c: c.tokens.max_tokens, 64),
        ("stages.1.select.toy_best.budget=20%", lambda c: c.stages[1].methods[0].budget, Budget.parse("20%")),
        ("select.toy_best.budget=9", lambda c: c.stages[1].methods[0].budget, Budget.parse(9)),
        ("train.epochs=2e-1", lambda c: c.stages[3].methods[0].epochs, 0.2),
        ("stages.2.score.toy_words.rate=3", lambda c: c.stages[2].methods[1].rate, 3.0),
        ("score.toy_plain=", lambda c: c.stages[2].methods[0].name, "toy_plain"),
        ("stages.0.score.toy_words.rate=3", lambda c: c.stages[0].methods[0].rate, 3.0),
        ("stages.2.score.1.toy_words.rate=3", lambda c: c.stages[2].methods[1].rate, 3.0),
        ("stages.2.score=[toy_plain]", lambda c: len(c.stages[2].methods), 1),
        ("train.adapter={toy_rank: {r: 2}}", lambda c: c.stages[3].methods[0].adapter.r, 2),
        ("sources.chat.path=b.jsonl", lambda c: c.sources[0].path, "b.jsonl"),
        ("sources.0.path=b.jsonl", lambda c: c.sources[0].path, "b.jsonl"),
        ("model.dtype=float32", lambda c: (c.model.path, c.model.dtype), ("m", "float32")),
        ("pipeline.toy_once.rounds=3", lambda c: c.pipeline.rounds, 3),
        ("target=a=b", lambda c: c.target.path, "a=b"),
    ],
)  # fmt: skip
def test_set(mine: Path, argument: str, place, value) -> None:
    assert place(load(mine, HEAD + "model: m\n" + CASCADE, argument).config) == value


def test_the_last_set_wins(mine: Path) -> None:
    assert load(mine, HEAD + STAGES, "seed=1", "seed=2").config.seed == 2


def test_set_mends_what_is_wrong_in_the_file(mine: Path) -> None:
    assert load(mine, HEAD + "seed: x\n" + STAGES, "seed=2").config.seed == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sead=1", "--set sead=1: unknown key `sead`. Did you mean `seed`?"),
        ("seed", "--set seed: must be KEY=VALUE, as in `seed=1` or `select.top.budget=20%`."),
        ("a..b=1", "--set a..b=1: must be KEY=VALUE, as in `seed=1` or `select.top.budget=20%`."),
        ("seed=[", "--set seed=[: the value is not valid YAML: '['. Quote it for the shell."),
        ("seed={a: 1, a: 2}", "--set seed={a: 1, a: 2}: key `a` is given twice, first on line 1. Remove one."),
        ("seed=x", "--set seed=x: seed: must be an integer. Got the text 'x'."),
        ("seed.a=1", "--set seed.a=1: `a` cannot be set inside the value 3."),
        (
            "tokens.max_token=1",
            "--set tokens.max_token=1: tokens.max_token: unknown key `max_token`. Did you mean `max_tokens`?",
        ),
        ("stages.9.score=a", "--set stages.9.score=a: index 9 is too large: the list has 4 elements."),
        ("mix.equal.a=1", "--set mix.equal.a=1: there is no `mix` stage to change."),
        (
            "score.toy_words.rate=1",
            ("--set score.toy_words.rate=1: `score` may mean 2 stages. Write stages.0.score.toy_words.rate or "
            "stages.2.score.toy_words.rate."),
        ),
        (
            "sources.chta.path=1",
            "--set sources.chta.path=1: unknown element of the list `chta`. Did you mean `chat`?",
        ),
        (
            "stages.score.rate=1",
            "--set stages.score.rate=1: `score` is there 2 times. Use an index, 0 to 3.",
        ),
    ],
)  # fmt: skip
def test_set_is_refused_by_its_own_name(mine: Path, argument: str, message: str) -> None:
    assert refused(mine, HEAD + "seed: 3\n" + CASCADE, argument) == [message]


def test_set_of_a_method_that_no_stage_holds_is_as_ambiguous(mine: Path) -> None:
    (message,) = refused(mine, HEAD + CASCADE, "score.toy_none.rate=1")
    assert "`score` may mean 2 stages" in message


def test_the_name_of_a_source_goes_before_its_keys(mine: Path) -> None:
    text = HEAD.replace("chat, path", "path, path").replace("}]", "}, {name: b, path: c}]") + STAGES
    assert load(mine, text, "sources.path.format=text").config.sources[0].format == "text"


def test_inside_a_value_that_was_set_errors_name_the_argument(mine: Path) -> None:
    text = HEAD + "stages: [{score: {toy_words: {rate: 1}}}]"
    (message,) = refused(mine, text, "stages.0.score={toy_words: {rate: x}}")
    assert message.startswith("--set stages.0.score={toy_words: {rate: x}}: stages[0].score.toy_words.rate: ")


def test_errors_of_set_come_after_those_of_the_file(mine: Path) -> None:
    lines = refused(mine, HEAD + "sead: 3\n" + STAGES, "seed=x")
    assert [line.split(":")[0] for line in lines] == ["run.yaml", "--set seed=x"]


# Marks, dumps, schema -------------------------------------------------------------------------------


def test_a_later_error_gets_its_line(mine: Path) -> None:
    loaded = load(mine, HEAD + CASCADE)
    with pytest.raises(ConfigError) as caught, loaded.marks.located():
        raise ConfigError(problems=[Problem(("stages", 2), "needs `x`."), Problem(("stages", 0), "is late.")])
    expected = ["run.yaml:6:3: stages[0]: is late.", "run.yaml:8:3: stages[2]: needs `x`."]
    assert str(caught.value).replace(f"{mine}/", "").splitlines() == expected


def test_a_place_inside_is_located_by_what_is_around_it(mine: Path) -> None:
    mark = load(mine, HEAD + CASCADE).marks.at(("stages", 2, "score", 1, "toy_words", "rows", "deep"))
    assert mark is not None
    assert (mark.line, mark.column) == (8, 23)


def test_branches_of_a_union_that_expect_the_same_say_it_once() -> None:
    class Either(BaseModel):
        a: list[int] | tuple[int, ...]

    with pytest.raises(ValidationError) as caught:
        Either.model_validate_json('{"a": 3}', strict=True)
    found = phrases.problems(caught.value, Either, {"a": 3})
    assert [str(problem) for problem in found] == ["a: must be a list. Got 3."]


def test_a_problem_found_twice_is_said_once() -> None:
    problem = Problem(("seed",), "is odd.")
    assert str(Marks().error([problem, problem])) == "seed: is odd."


def test_an_error_without_a_place_passes_unchanged(mine: Path) -> None:
    with pytest.raises(ConfigError, match=r"^plain$"), load(mine, HEAD + STAGES).marks.located():
        raise ConfigError("plain")


FULL = (
    HEAD
    + "model: m\ntarget: {path: t, columns: {prompt: q}}\nmax_bad_fraction: 2%\n"
    + CASCADE
    + "  resources: {gpus: 0.5}\n- clean: [toy_empty]\n- select: {toy_best: {by: a, budget: 33.333333%}}\n"
    + "- select: {toy_best: {by: a, budget: 2M tokens, k: 3, weights: {chat: 1e-9}}}\n"
)


def test_a_dump_gives_the_same_configuration(mine: Path) -> None:
    config = load(mine, FULL).config
    assert read_config(json.loads(json.dumps(dump_config(config)))).config == config


def test_a_dump_has_the_shape_of_a_file(mine: Path) -> None:
    dumped = dump_config(load(mine, FULL).config)
    assert dumped["stages"][1] == {
        "select": {"toy_best": {"by": "toy_words", "budget": "50%", "k": "auto", "weights": {}}}
    }


def test_a_dump_keeps_resources_and_nested_methods(mine: Path) -> None:
    dumped = dump_config(load(mine, FULL).config)["stages"][3]
    train = {"adapter": {"toy_rank": {"r": 8}}, "teacher": None, "epochs": 2.0}
    assert dumped == {"train": train, "resources": {"gpus": 0.5}}


def test_identity_covers_a_nested_method_with_its_version(mine: Path) -> None:
    method = load(mine, HEAD + "stages: [{train: {}}]").config.stages[0].methods[0]
    identity = method.identity()["adapter"]
    assert len(identity.pop("code")) == 32, "the hash of the plug-in's file"
    assert identity == {"method": "toy_rank", "version": 7, "r": 8}


def test_values_from_python_are_refused_by_place_alone(mine: Path) -> None:
    values = dump_config(load(mine, FULL).config) | {"seed": 1.5}
    with pytest.raises(ConfigError, match=r"^seed: must be an integer\. Got 1\.5\.$"):
        read_config(values)


def schema_errors(mine: Path, text: str) -> list[str]:
    """What a validator of JSON Schema says of a YAML text."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema(Registry((mine / "mine",)))
    jsonschema.Draft202012Validator.check_schema(schema)
    values = parse_yaml(text, "x").tree
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(values)]


@pytest.fixture
def no_builtin_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the plug-ins exist."""
    monkeypatch.setattr("curate.registry._builtin", lambda package: ())


@pytest.mark.usefixtures("no_builtin_methods")
def test_the_schema_accepts_what_loads(mine: Path) -> None:
    assert schema_errors(mine, FULL) == []


@pytest.mark.usefixtures("no_builtin_methods")
@pytest.mark.parametrize(
    "stage", ["score: {toy_words: }", "train: ", "score: toy_words", "score: [toy_words]"]
)
def test_the_schema_accepts_short_forms(mine: Path, stage: str) -> None:
    assert schema_errors(mine, HEAD + f"stages: [{{{stage}}}]") == []


@pytest.mark.usefixtures("no_builtin_methods")
@pytest.mark.parametrize(
    "stages",
    [
        "stages: [{score: toy_wrds}]",
        "stages: [{scor: toy_words}]",
        "stages: [{select: toy_best}]",
        "stages: [{select: {}}]",
        "stages: [{select: [{toy_best: {by: a, budget: 1}}]}]",
        "stages: [{select: {toy_best: {by: a, budget: ten}}}]",
        "stages: [{score: {toy_words: {rat: 1}}}]",
        "stages: [{score: toy_words, clean: toy_empty}]",
        "stages: [{train: {adapter: {toy_rank: {r: x}}}}]",
        "stages: []",
        "stages: [{score: toy_words}]\nsead: 1",
        "stages: [{score: toy_words}]\nmodel: {path: 3}",
    ],
)
def test_the_schema_refuses_what_does_not_load(mine: Path, stages: str) -> None:
    assert schema_errors(mine, HEAD + stages) != []


@pytest.mark.usefixtures("no_builtin_methods")
def test_the_schema_describes_fields(mine: Path) -> None:
    fields = json_schema(Registry((mine / "mine",)))["$defs"]["selectors.toy_best"]["properties"]
    assert fields["by"]["description"] == "score to rank by"


@pytest.mark.usefixtures("no_builtin_methods")
def test_the_schema_has_no_markers_left(mine: Path) -> None:
    assert '"x-' not in json.dumps(json_schema(Registry((mine / "mine",))))


CONFIGS = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=[file.stem for file in CONFIGS])
def test_our_recipes_load_and_fit_the_schema(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    jsonschema = pytest.importorskip("jsonschema")
    load_config(file)
    validator = jsonschema.Draft202012Validator(json_schema())
    assert [error.message for error in validator.iter_errors(parse_yaml(file.read_text(), "x").tree)] == []

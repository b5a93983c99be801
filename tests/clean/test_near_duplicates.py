from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.clean import near_duplicates as module
from curate.clean.near_duplicates import NearDuplicates
from curate.cleaner import Duplicates, FrameColumns
from curate.numerics.shingles import normalise

WORDS = [f"w{number}" for number in range(400)]
UNBOUNDED = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def frame(
    texts: Sequence[str], prompts: Sequence[str] | None = None, **columns: Sequence[object]
) -> pl.DataFrame:
    prompt = [""] * len(texts) if prompts is None else list(prompts)
    return pl.DataFrame({"prompt": prompt, "response": list(texts), **columns}, strict=False)


def run(method: NearDuplicates, rows: pl.DataFrame) -> Duplicates:
    return method.group(FrameColumns(rows.hstack(method.sign(rows))))


def corpus(seed: int, rows: int = 40) -> list[str]:
    """Texts of 3 to 60 words, most of them edits of another one."""
    random = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for _ in range(rows):
        if texts and random.random() < 0.7:
            words = list(texts[random.integers(len(texts))])
            for _ in range(random.integers(0, 4)):
                words[random.integers(len(words))] = WORDS[random.integers(len(WORDS))]
        else:
            words = [WORDS[i] for i in random.integers(0, len(WORDS), random.integers(3, 60))]
        texts.append(words)
    return [" ".join(words) for words in texts]


def shingles(text: str, ngram: int) -> frozenset[str]:
    words = normalise(text).split()
    grams = [" ".join(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))]
    return frozenset(gram for gram in grams if gram)


def similarities(texts: Sequence[str], ngram: int) -> NDArray[np.float64]:
    sets = [shingles(text, ngram) for text in texts]
    return np.array([[len(a & b) / max(1, len(a | b)) for b in sets] for a in sets])


def partition(survivor: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(survivor == name).tolist()) for name in np.unique(survivor)}


def brute_partition(alike: NDArray[np.bool_]) -> set[frozenset[int]]:
    reach = alike | np.eye(len(alike), dtype=np.bool_)
    for _ in range(len(alike).bit_length()):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return {frozenset(np.flatnonzero(row).tolist()) for row in reach}


@UNBOUNDED
@given(seed=st.integers(0, 10_000), ngram=st.integers(1, 5), threshold=st.sampled_from([0.4, 0.6, 0.8, 1.0]))
def test_groups_equal_brute_force_where_every_row_is_a_candidate(
    seed: int, ngram: int, threshold: float
) -> None:
    """All rows share every band, so that nothing is missed and verification alone decides."""
    texts = corpus(seed)
    method = NearDuplicates(threshold=threshold, ngram=ngram)
    rows = frame(texts)
    signed = method.sign(rows)
    everybody = np.zeros((len(texts), len(signed[f"{method.name}.bands"][0])), dtype=np.uint64)
    signed = signed.with_columns(
        pl.Series(f"{method.name}.bands", everybody, dtype=pl.Array(pl.UInt64, everybody.shape[1]))
    )
    found = method.group(FrameColumns(rows.hstack(signed)))
    assert partition(found.survivor) == brute_partition(similarities(texts, ngram) >= threshold)


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_a_group_is_linked_by_pairs_that_reach_the_threshold(seed: int) -> None:
    texts = corpus(seed)
    found = run(NearDuplicates(threshold=0.6, ngram=3), frame(texts))
    alike = similarities(texts, 3) >= 0.6
    for group in partition(found.survivor):
        members = sorted(group)
        assert brute_partition(alike[np.ix_(members, members)]) == {frozenset(range(len(members)))}


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_the_similarity_is_the_exact_one_to_the_survivor(seed: int) -> None:
    texts = corpus(seed)
    found = run(NearDuplicates(threshold=0.6, ngram=3), frame(texts))
    exact = similarities(texts, 3)[np.arange(len(texts)), found.survivor]
    dropped = found.survivor != np.arange(len(texts))
    assert np.array_equal(found.similarity, np.where(dropped, exact, np.nan), equal_nan=True)


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_another_order_of_rows_gives_the_same_groups(seed: int) -> None:
    texts = corpus(seed)
    order = np.random.default_rng(seed).permutation(len(texts))
    method = NearDuplicates(threshold=0.6, ngram=3)
    there = partition(run(method, frame([texts[i] for i in order])).survivor)
    assert {frozenset(int(order[i]) for i in group) for group in there} == partition(
        run(method, frame(texts)).survivor
    )


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_survivors_have_no_duplicates_among_them(seed: int) -> None:
    rows = frame(corpus(seed))
    method = NearDuplicates(threshold=0.6, ngram=3)
    kept = rows[np.unique(run(method, rows).survivor)]
    assert np.isnan(run(method, kept).similarity).all()


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_survivors_stand_for_themselves(seed: int) -> None:
    survivor = run(NearDuplicates(threshold=0.5, ngram=2), frame(corpus(seed))).survivor
    assert np.array_equal(survivor[survivor], survivor)


@UNBOUNDED
@given(seed=st.integers(0, 10_000))
def test_parts_verified_apart_give_the_same(seed: int) -> None:
    rows = frame(corpus(seed))
    method = NearDuplicates(threshold=0.6, ngram=3)
    whole = run(method, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_SHINGLES", 30)
        apart = run(method, rows)
    assert np.array_equal(whole.survivor, apart.survivor)
    assert np.array_equal(whole.similarity, apart.similarity, equal_nan=True)


def test_finds_what_datasketch_finds() -> None:
    """Every pair of the corpus that is alike and that datasketch's own LSH meets is in one of our groups."""
    from datasketch import MinHash, MinHashLSH

    texts = corpus(3, rows=200)
    index = MinHashLSH(threshold=0.8, num_perm=128)
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in shingles(text, 3)])
        index.insert(number, sketch)
    exact = similarities(texts, 3)
    survivor = run(NearDuplicates(threshold=0.8, ngram=3), frame(texts)).survivor
    buckets = [bucket for table in index.hashtables for bucket in (table.get(key) for key in table.keys())]  # noqa: SIM118
    met = {(a, b) for bucket in buckets for a in bucket for b in bucket if a < b and exact[a, b] >= 0.8}
    assert len(met) > 20
    assert [pair for pair in met if survivor[pair[0]] != survivor[pair[1]]] == []


def test_signatures_do_not_depend_on_the_batch() -> None:
    rows = frame(corpus(1))
    method = NearDuplicates()
    assert method.sign(rows).equals(pl.concat([method.sign(rows[:7]), method.sign(rows[7:])]))


def test_the_longest_survives_by_default() -> None:
    text = " ".join(WORDS[:50])
    found = run(NearDuplicates(), frame([text, f"{text} more", text]))
    assert found.survivor.tolist() == [1, 1, 1]


def test_the_first_survives_if_asked() -> None:
    text = " ".join(WORDS[:50])
    found = run(NearDuplicates(keep="first"), frame([text, f"{text} more"]))
    assert found.survivor.tolist() == [0, 0]


@pytest.mark.parametrize(("keep", "expected"), [("quality", 2), ("-quality", 1)])
def test_a_score_decides_who_survives(keep: str, expected: int) -> None:
    text = " ".join(WORDS[:50])
    rows = frame([text] * 4, **{"score.quality": [2.0, 1.0, 3.0, None]})
    assert run(NearDuplicates(keep=keep), rows).survivor.tolist() == [expected] * 4


def test_a_score_that_decides_is_declared() -> None:
    assert "score.quality" in NearDuplicates(keep="-quality").group_needs()


def test_prompts_alone_may_be_compared() -> None:
    prompt = " ".join(WORDS[:50])
    rows = frame(["yes", "no no"], prompts=[prompt, prompt])
    assert run(NearDuplicates(of="prompt"), rows).survivor.tolist() == [1, 1]
    assert run(NearDuplicates(of="response"), rows).survivor.tolist() == [0, 1]


def test_short_texts_are_duplicates_only_of_themselves() -> None:
    found = run(NearDuplicates(), frame(["yes sir", "Yes  SIR", "no sir", "yes sir yes"]))
    assert found.survivor.tolist() == [1, 1, 2, 3]


def test_rows_without_the_text_are_left_alone() -> None:
    found = run(NearDuplicates(of="prompt"), frame(["a", "b"], prompts=["", " "]))
    assert found.survivor.tolist() == [0, 1]


def test_characters_serve_languages_without_spaces() -> None:
    text = "".join(chr(0x4E00 + 7 * number) for number in range(80))
    rows = frame([text, text[:70] + "\u3042" + text[71:]])
    assert run(NearDuplicates(unit="character", ngram=3), rows).survivor.tolist() == [0, 0]
    assert run(NearDuplicates(unit="word"), rows).survivor.tolist() == [0, 1]


def test_an_empty_pool_has_no_duplicates() -> None:
    rows = frame([]).cast(pl.String)
    assert len(run(NearDuplicates(), rows).survivor) == 0


def test_the_reason_names_the_survivor_and_the_similarity() -> None:
    reason = NearDuplicates(threshold=0.7).reason("chat:17", 0.8125)
    assert reason == "near duplicate of chat:17 (Jaccard 0.812 of word 5-grams)"


def test_the_reason_says_when_others_link_a_row_to_its_survivor() -> None:
    reason = NearDuplicates(threshold=0.7).reason("chat:17", 0.5)
    assert reason == "near duplicate of chat:17 (Jaccard 0.500 of word 5-grams, linked by others)"

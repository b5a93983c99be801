"""The rating prompts that the Deita scorers share, word for word, so that each is asked once for all of them.

Each turn is rated by itself, as in Deita. A turn without an instruction (a text alone, an answer that follows
an answer) or without an answer in words (a call of a tool) cannot be: it is left out.
"""

from collections.abc import Sequence

from curate.scorer import Numbers

COMPLEXITY = """\
Rate how complex the query below is: how much knowledge, how many steps of reasoning and how many conditions a \
good answer has to bring together. Do not answer the query.

1: trivial, a greeting or a well-known fact
2: easy, one short step
3: moderate, a few steps or some explanation
4: demanding, several conditions or knowledge of a field
5: hard, long reasoning or expert knowledge
6: very hard, even an expert would need long

#Query#:
{instruction}

Reply with the complexity score alone, one digit from 1 to 6.
#Complexity#:"""

QUALITY = """\
Rate the quality of the response to the question below: whether it is correct, complete, clear and to the point.

1: useless, wrong, unreadable or about something else
2: poor, mostly wrong or missing what was asked
3: weak, partly right, with clear faults
4: fair, right on the whole, but thin or unclear in places
5: good, correct, complete and clear
6: excellent, nothing could be improved

#Question#:
{instruction}

#Response#:
{response}

Reply with the quality score alone, one digit from 1 to 6.
#Quality#:"""


def rated(turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (instruction, response) turns that can be rated: neither side is empty."""
    return [
        (instruction, response) for instruction, response in turns if instruction.strip() and response.strip()
    ]


def complexity_prompts(turns: Sequence[tuple[str, str]]) -> list[str]:
    """One prompt for each turn that can be rated."""
    return [COMPLEXITY.format(instruction=instruction) for instruction, _ in rated(turns)]


def quality_prompts(turns: Sequence[tuple[str, str]]) -> list[str]:
    """One prompt for each turn that can be rated."""
    return [
        QUALITY.format(instruction=instruction, response=response) for instruction, response in rated(turns)
    ]


def mean(ratings: Numbers) -> float:
    """The mean rating of a row's turns; NaN where there is none, or one of them was not answered."""
    return float(ratings.mean()) if len(ratings) else float("nan")

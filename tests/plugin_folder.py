"""A folder of plug-in methods for tests of configuration, registry and command line.

Their names are unlike those of any built-in method, so that tests do not depend on which of those exist.
"""

import textwrap
from pathlib import Path

FILES = {
    "scorers/toy_words.py": '''
        """Toy words: how many words the response has.

        Source: a test,
        on two lines.

        Cost: none.
        """

        import numpy as np
        from pydantic import Field

        from curate.scorer import TextScorer


        class ToyWords(TextScorer):
            """Words of the response."""

            higher_is_better = None
            rate: float = Field(default=1.0e-3, gt=0, description="a rate")
            rows: int = Field(default=5, ge=1, description="some rows")
            fast: bool = Field(default=False, description="whether to hurry")

            def score(self, rows):
                return np.array([len(text.split()) for text in rows["response"]], dtype=float)
    ''',
    "scorers/toy_plain.py": '''
        """Toy plain: zero."""

        import numpy as np

        from curate.scorer import TextScorer


        class ToyPlain(TextScorer):
            """Zero for every row."""

            higher_is_better = True

            def score(self, rows):
                return np.zeros(len(rows))
    ''',
    "selectors/toy_best.py": '''
        """Toy best: the first rows."""

        from typing import Literal

        import numpy as np
        from pydantic import Field

        from curate.budget import Budget
        from curate.selector import Selection, Selector


        class ToyBest(Selector):
            """The first rows by a score."""

            by: str = Field(description="score to rank by")
            budget: Budget = Field(description="how much to keep")
            k: int | Literal["auto"] = Field(default="auto", description="groups")
            weights: dict[str, float] = Field(default_factory=dict, description="per source")

            def select(self, pool):
                raise NotImplementedError
    ''',
    "cleaners/toy_empty.py": '''
        """Toy empty: drops rows without text."""

        from curate.cleaner import Filter


        class ToyEmpty(Filter):
            """Drops rows without text."""

            def judge(self, rows):
                return [None] * len(rows)
    ''',
    "adapters/toy_rank.py": '''
        """Toy rank: an adapter."""

        from pydantic import Field

        from curate.component import Component


        class ToyRank(Component):
            """An adapter of a rank."""

            version = 7
            r: int = Field(default=8, ge=1, description="rank")
    ''',
    "pipelines/toy_once.py": '''
        """Toy once: a shape of pipeline."""

        from pydantic import Field

        from curate.component import Component


        class ToyOnce(Component):
            """The stages once."""

            rounds: int = Field(default=1, ge=1, description="how often")
    ''',
}


def write_plugins(folder: Path) -> Path:
    """Write the plug-ins into `folder` and return it."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return folder

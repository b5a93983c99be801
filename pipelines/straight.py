"""Straight: the stages of the list, one after another, once.

The default. Other shapes (rounds, comparisons, searches) wrap the same list.
"""

from curate.engine import Engine
from curate.pipeline import Pipeline, build
from curate.spec import Config
from curate.view import View


class Straight(Pipeline):
    """Each stage once, in the order of the list; each sees the rows that the one before kept."""

    def run(self, config: Config, engine: Engine) -> View:
        """Run all stages."""
        view = View()
        for stage in build(config):
            view = engine.run(stage, view)
        return view

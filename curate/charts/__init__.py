"""Charts: pure functions from polars frames or JSON values to Altair charts. `curate.plot` feeds them a run's tables.

What holds for all: numbers are binned, cut at the largest N or sampled, so that a chart's size does not grow with the
pool. Colours are of a palette that colour-blind readers tell apart, and never alone: position, shape, dashes or text
say the same. Values are in the chart (`chart.data.values`, a list of dicts).
"""

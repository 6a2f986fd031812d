"""Model and data in, figures and plots out.

The figures are plain dicts of plain numbers, ready for `metrics.json`. The plots, in
`tfmodel.evaluate.plots`, are SVG strings; they import matplotlib, so import them when needed.
"""

from tfmodel.evaluate.classification import classification, wilson_interval
from tfmodel.evaluate.labelling import labelling
from tfmodel.evaluate.regression import regression

__all__ = ["classification", "labelling", "regression", "wilson_interval"]

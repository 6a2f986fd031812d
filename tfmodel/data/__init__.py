"""Raw labelled text in, a clean, split dataset out.

Row letters: a row is one labelled text or pair of texts; every raw row is kept in a split or
accounted for in `dropped.jsonl`.
"""

from __future__ import annotations

from tfmodel.data.dataset import Dataset, Split, load_dataset
from tfmodel.data.folds import fold_numbers
from tfmodel.data.prepare import prepare
from tfmodel.data.reading.suggest import suggest
from tfmodel.data.rows import Row
from tfmodel.data.settings import CleaningSettings, DataSettings

__all__ = [
    "CleaningSettings",
    "DataSettings",
    "Dataset",
    "Row",
    "Split",
    "fold_numbers",
    "load_dataset",
    "prepare",
    "suggest",
]

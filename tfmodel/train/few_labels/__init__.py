"""Classifiers from a few labelled rows a class: one file a method, all with the same `train`."""

from __future__ import annotations

import importlib

from tfmodel.train.few_labels.settings import METHODS, FewLabelsSettings, Method

__all__ = ["METHODS", "FewLabelsSettings", "Method", "find"]


def find(name: str):
    """The module of a method: it has `train`, which makes an ordinary classifier.

    Args:
        name: one of `METHODS`.
    """
    return importlib.import_module(f"tfmodel.train.few_labels.{METHODS[name].module}")

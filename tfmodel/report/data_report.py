"""A prepared dataset -> one page that tells what became of every raw row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.data import load_dataset
from tfmodel.data.account import ACCOUNT_FILE, DROPPED_FILE
from tfmodel.report import examples, wording
from tfmodel.report.data import balance, encoding, flow, reason_in_words, reasons_table, step_in_words
from tfmodel.report.html import write_html
from tfmodel.report.left_out import LeftOut, read_left_out
from tfmodel.report.results import Figures
from tfmodel.report.tables import bar, column

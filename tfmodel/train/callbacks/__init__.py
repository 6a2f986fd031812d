"""What happens around the steps: progress, checkpoints, the best epoch, what is watched.

Each is a plain `keras.callbacks.Callback` for anybody's `fit`; those that need the numbers of a
batch take the `Batches` that feed it.
"""

from tfmodel.train.callbacks.best import KeepBest
from tfmodel.train.callbacks.dev_figures import DevFigures
from tfmodel.train.callbacks.one_training import OneTraining
from tfmodel.train.callbacks.progress import Progress
from tfmodel.train.callbacks.recording import EpochRecorder, StepRecorder
from tfmodel.train.callbacks.resume import Resume
from tfmodel.train.callbacks.stopping import StopOnNaN
from tfmodel.train.callbacks.stopwatch import Stopwatch
from tfmodel.train.watch.answers import DevRows
from tfmodel.train.watch.tensorboard_callback import TensorBoard
from tfmodel.train.watch.watching import Watch

__all__ = [
    "DevFigures",
    "DevRows",
    "EpochRecorder",
    "KeepBest",
    "OneTraining",
    "Progress",
    "Resume",
    "StepRecorder",
    "StopOnNaN",
    "Stopwatch",
    "TensorBoard",
    "Watch",
]

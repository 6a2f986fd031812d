"""A process whose rollout is killed by SIGKILL at each of its writes, and given again.

Run: python rollout_killed.py MODELS_CONFIG ADDRESS STEP

It forks a child for each point: the child takes one step of a rollout to version 2 and is killed at
the point; then the same step is taken again, and the rollout is taken back. Points are the moments
before and after a file takes its place by renaming. Printed is a line of JSON a point: where the
labels were after the kill, and what was reached in the end.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tfmodel.serve.models_config import read_models_config
from tfmodel.serve.rollout import Rollout

STEPS = {
    "start": lambda trial: trial.start(2),
    "promote": lambda trial: trial.promote(anyway=True),
    "rollback": lambda trial: trial.rollback(),
}
BEFORE = {"start": (), "promote": ("start",), "rollback": ("start", "promote")}
_MOST = 40


def killed_at(point, take):
    """Fork: whether the child was killed at its so-manieth point, or ended before."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    passed, rename = 0, Path.rename

    def pass_by():
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def rename_or_die(path, target):
        pass_by()
        found = rename(path, target)
        pass_by()
        return found

    Path.rename = rename_or_die
    try:
        take()
    finally:
        os._exit(0)


def main(config, address, step):
    # What a version's files say takes TensorFlow to check, and writes nothing.
    Rollout._check = lambda *_: None

    def take(name):
        return STEPS[name](Rollout(config, server=address, wait_seconds=30)).stage

    for point in range(1, _MOST):
        for earlier in BEFORE[step]:
            take(earlier)
        was_killed = killed_at(point, lambda: take(step))
        (entry,) = read_models_config(config).model_config_list.config
        left = {"killed": was_killed, "labels": dict(entry.version_labels)}
        left["reached"] = take(step)
        left["again"] = take(step)
        left["back"] = take("rollback")
        print(json.dumps(left), flush=True)
        if not was_killed:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])

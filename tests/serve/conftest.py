"""Fixtures of recorders of feedback."""

import pytest
import small_feedback


@pytest.fixture
def url(tmp_path):
    """A database that is not there yet."""
    return f"sqlite:///{tmp_path}/feedback.db"


@pytest.fixture
def record(url):
    """Start a recorder with these facts and settings; it is stopped at the end."""
    started = []

    def start(*facts, **options):
        started.append(small_feedback.start(url, *facts, **options))
        return started[-1]

    yield start
    for recorder in started:
        recorder.stop(20)

import keras
import numpy as np
import pytest

from tfmodel.train import linear_schedule


@pytest.mark.parametrize(
    ("warmup_share", "expected"),
    [
        (0.0, [1, 0.8, 0.6, 0.4, 0.2, 0]),
        (0.4, [0.5, 1, 1, 2 / 3, 1 / 3, 0]),
        (1.0, [0.2, 0.4, 0.6, 0.8, 1, 0]),
    ],
)
def test_rates_rise_to_the_peak_and_fall_to_zero(warmup_share, expected):
    schedule = linear_schedule(2e-4, total_steps=5, warmup_share=warmup_share)
    rates = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(rates, 2e-4 * np.array(expected), atol=1e-10)


def test_no_step_is_wasted_on_a_rate_of_zero_and_none_comes_after():
    schedule = linear_schedule(1.0, total_steps=100)
    rates = [float(schedule(step)) for step in range(100)]
    assert min(rates) > 0 and max(rates) == 1.0
    assert [float(schedule(step)) for step in (100, 150)] == [0, 0]


def test_config_round_trip():
    schedule = linear_schedule(0.5, total_steps=7, warmup_share=0.3)
    serialized = keras.optimizers.schedules.serialize(schedule)
    assert keras.optimizers.schedules.deserialize(serialized).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"peak": 0, "total_steps": 5}, "peak must be above 0. Received: 0"),
        ({"peak": 1, "total_steps": 0}, "Received: warmup_steps 0, total_steps 0"),
        ({"peak": 1, "total_steps": 5, "warmup_share": 1.5}, r"in \[0, 1\]. Received: 1.5"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        linear_schedule(arguments.pop("peak"), **arguments)

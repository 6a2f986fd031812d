"""Steps of several tasks: what a step changes, by how much, and what is refused.

Run: pytest tests/train/test_several_step.py
"""

import keras
import numpy as np
import pytest
import small_run

import tfmodel as tm
from tfmodel.tasks import classify, regress
from tfmodel.train.several_step import SeveralModel


def test_the_moments_of_weights_seldom_updated_are_corrected_by_their_own_updates():
    def weights():
        return [keras.Variable(np.full((2, 3), 0.5, np.float32), name=n) for n in ("own", "all")]

    gradients = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    (alone, _), (own, shared) = weights(), weights()
    plain, counting = (tm.AdamW(0.1, global_clipnorm=None) for _ in range(2))
    plain.build([alone])
    counting.count_apart([[own]])
    counting.build([own, shared])
    for step in range(12):
        gradient = keras.ops.convert_to_tensor(gradients[step // 3])
        if step % 3:
            counting.apply([gradient], [shared])
        else:  # one step of three
            counting.apply([gradient, gradient], [own, shared])
            plain.apply([gradient], [alone])
    np.testing.assert_allclose(own, alone, rtol=1e-6)
    with pytest.raises(ValueError, match="count_apart before build"):
        counting.count_apart([[own]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.write_encoder(tmp_path_factory.mktemp("several") / "encoder")


def models(folder):
    encoder = tm.load_encoder(folder)
    return {
        "topic": classify.build(encoder, classes=3),
        "stars": regress.build(encoder, mean=2.0),
    }


LOSSES = {"topic": classify.loss(), "stars": regress.loss()}


@pytest.mark.slow
def test_a_step_of_one_task_leaves_the_heads_of_others(folder):
    rows = small_run.rows(12)
    texts, labels = [text for text, _ in rows], np.arange(12) % 3
    tokenizer = tm.load_tokenizer(folder, max_length=12)
    model = SeveralModel(models(folder), weights={"stars": 0.5})
    model.compile(tm.adamw(1e-2, weight_decay=0.1), loss=LOSSES)
    heads = model.heads()
    assert {name: len(head) for name, head in heads.items()} == {"topic": 2, "stars": 2}
    own = {id(weight) for head in heads.values() for weight in head}
    shared = [weight for weight in model.trainable_variables if id(weight) not in own]
    assert len(shared) + 4 == len(model.trainable_variables)
    (batch,) = tm.batches(texts, labels, tokenizer=tokenizer)

    def values(weights):
        return [np.array(weight) for weight in weights]

    optimizer_of_stars = [
        v for v in model.optimizer.variables if "head" in v.path and "momentum" in v.path
    ][2:]
    before = {name: values(heads[name]) for name in heads}
    before_shared, moments = values(shared), values(optimizer_of_stars)
    assert len(moments) == 2
    model.parts["topic"].train_step(batch)
    for now, then in zip(values(heads["stars"]), before["stars"], strict=True):
        np.testing.assert_array_equal(now, then)  # weight decay spares it, too
    for now, then in zip(values(optimizer_of_stars), moments, strict=True):
        np.testing.assert_array_equal(now, then)
    for weights, then in ((heads["topic"], before["topic"]), (shared, before_shared)):
        changed = [not np.array_equal(a, b) for a, b in zip(values(weights), then, strict=True)]
        assert sum(changed) >= len(changed) - 1  # a text is one segment: its table has one row
    assert int(model.optimizer.iterations) == 1


def test_models_that_do_not_belong_together_are_refused(folder):
    known = models(folder)
    with pytest.raises(ValueError, match="share one encoder. Received: 2 of them"):
        SeveralModel({"topic": known["topic"], "stars": models(folder)["stars"]})
    with pytest.raises(ValueError, match="two tasks or more. Received: topic"):
        SeveralModel({"topic": known["topic"]})
    with pytest.raises(ValueError, match="weights above 0 of topic, stars. Received: {'moon': 1}"):
        SeveralModel(known, weights={"moon": 1})
    with pytest.raises(
        ValueError, match="a loss for each of topic, stars. Received: those of topic"
    ):
        SeveralModel(known).compile(tm.adamw(), loss={"topic": LOSSES["topic"]})

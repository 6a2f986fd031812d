"""What page and terminal say of vectors: of scored pairs, and of partners to be found."""

import json

import numpy as np
import pytest

from tfmodel.report import embedding, summary_text, write_report
from tfmodel.tasks import embed


def figures(scored):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(60, 2, 4))
    vectors[:, 1] += vectors[:, 0]
    targets = np.arange(120).reshape(60, 2)
    if scored:
        targets = generator.normal(size=60)
    texts = [f"text {row}" for row in range(60)]
    pairs = [f"partner {row} <b>" for row in range(60)]
    return json.loads(json.dumps(embed.evaluate(targets, vectors, texts=texts, text_pairs=pairs)))


@pytest.mark.parametrize("scored", [True, False])
def test_a_page_of_vectors(tmp_path, make_results, scored):
    found = figures(scored)
    task = "embed_scored" if scored else "embed"
    results = make_results(
        task=task, evaluation={"test": found, "dev": found}, history=[], parity={}
    )
    page = write_report(tmp_path / "report.html", results).read_text("utf-8")
    assert "vectors for texts" in page and "partner 1 <b>" not in page
    assert (">Numbers</h2>" in page, ">Retrieval</h2>" in page) == (scored, not scored)
    said = summary_text(results)
    assert ("Spearman" in said, "Recall at 10" in said) == (scored, not scored)
    assert "among 60 texts" in " ".join(said.split()) or scored


def test_of_a_mistake_the_nearest_is_shown():
    found = figures(scored=False)
    view = embedding.view("dev", found)
    assert "the nearest is “partner" in view["mistakes"]["rows"][0]["predicted"]
    assert view["headline"]["unit"] == "%" and "The dev part steered" in view["headline"]["context"]
    found["mistakes"][0]["found"] = ""  # a negative was nearer
    assert "nearest" not in embedding.view("test", found)["mistakes"]["rows"][0]["predicted"]
    assert embedding.view("test", {}) == {}


def test_triplets_are_a_fact():
    names = [name for name, _, _ in embedding.facts({**figures(False), "triplet_accuracy": 0.75})]
    assert names == ["Recall at 1", "MRR", "Triplets"]

"""A data set that TFDS prepares as any other, from a file that it downloads."""

import os
import time

import tensorflow_datasets as tfds


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    """Reviews of a file at TINY_REVIEWS_URL; TINY_REVIEWS_STALL keeps it waiting midway."""

    VERSION = tfds.core.Version("1.1.0")
    SUPPORTED_VERSIONS = [tfds.core.Version("1.0.0")]
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="short"),
        tfds.core.BuilderConfig(name="long"),
    ]

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["bad", "good"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        path = dl_manager.download(os.environ["TINY_REVIEWS_URL"])
        if "TINY_REVIEWS_STALL" in os.environ:
            print("ready", flush=True)
            time.sleep(600)
        rows = [line.split(",") for line in path.read_text().splitlines()]
        return {
            "train": self._generate_examples(rows[:-2]),
            "test": self._generate_examples(rows[-2:]),
        }

    def _generate_examples(self, rows):
        for index, (text, label) in enumerate(rows):
            yield index, {"text": text, "label": label}

"""The lint's verdict on KerasHub's export, and its table, against TensorFlow 2.12 itself.

Run: pytest -m slow tests/export/test_lint_peers.py
"""

import json
import string
import subprocess
import sys
from pathlib import Path

import needs
import pytest

from tfmodel.export import lint
from tfmodel.export.linting import serving_ops
from tfmodel.export.linting.serving_ops import is_in, since

pytestmark = pytest.mark.slow

_PACKAGES = ["tensorflow==2.12.*", "tensorflow-text==2.12.1", "tensorflow-serving-api==2.12.*"]
_LOAD = """
import sys
from pathlib import Path
import tensorflow as tf, tensorflow_text
tf.saved_model.load(sys.argv[1])
"""
_LIST = """
import json
import tensorflow as tf, tensorflow_text
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session as session
found = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
print(json.dumps([operation.name for operation in found.op]))
"""


@pytest.fixture(scope="module")
def older_python():
    """An interpreter with TensorFlow 2.12 and the TF Text that TF Serving 2.12 links."""
    if sys.version_info >= (3, 12):
        needs.give_up("tensorflow 2.12 has wheels for Python 3.8 to 3.11 alone")
    return needs.environment("tensorflow-2.12", *_PACKAGES)


@pytest.fixture(scope="module")
def keras_hub_export(tmp_path_factory):
    """What a user of KerasHub saves to serve texts: its classifier behind its preprocessor."""
    keras_hub = needs.package("keras_hub")
    import keras
    import tensorflow as tf

    letters = string.ascii_lowercase
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=[*special, *letters, *("##" + letter for letter in letters)]
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=16)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor
    )
    archive = keras.export.ExportArchive()
    archive.track(classifier)
    archive.add_endpoint(
        "serve",
        lambda text: classifier(preprocessor(text)),
        input_signature=[tf.TensorSpec([None], tf.string, "text")],
    )
    folder = tmp_path_factory.mktemp("keras_hub")
    archive.write_out(str(folder / "1"), verbose=False)
    return folder


def test_keras_hubs_round_robin_truncation_is_refused_before_2_20(keras_hub_export):
    for target in ("2.12", "2.19"):
        (problem,) = lint(keras_hub_export, target=target).problems
        assert problem.startswith("TFText>RoundRobinTrim is in TF Serving since 2.20")
        assert "serving_default" in problem and "Cut with core operations" in problem
    assert lint(keras_hub_export, target="2.20").passed


def test_tensorflow_2_12_refuses_it_for_the_same_operation(keras_hub_export, older_python):
    done = subprocess.run(
        [older_python, "-c", _LOAD, str(keras_hub_export / "1")], capture_output=True, text=True
    )
    assert done.returncode and "not registered 'TFText>RoundRobinTrim'" in done.stderr


def test_the_table_has_what_tensorflow_2_12_has(older_python):
    done = subprocess.run([older_python, "-c", _LIST], capture_output=True, text=True, check=True)
    registered = {*json.loads(done.stdout)}
    table = json.loads(
        (Path(serving_ops.__file__).with_name("serving_ops.json")).read_text("utf-8")
    )
    known = {name for names in table["since"].values() for name in names}
    wrong = {name for name in known if is_in(name, "2.12") != (name in registered)}
    # TF Serving links Decision Forests, which neither package brings.
    assert {name for name in wrong if not name.startswith("SimpleML")} == set()
    assert since("SimpleMLInferenceOpWithHandle") == "2.11" and len(known) > 1500

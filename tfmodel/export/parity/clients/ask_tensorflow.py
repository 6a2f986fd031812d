"""Ask a SavedModel in TensorFlow, on one thread.

A row is `{"signature": name, "inputs": {name: values}}`; its answer is `{output: values}`.
"""

from protocol import serve


def import_runtime():
    """Import TensorFlow with the tokenizer's operations."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def load(tf, request):
    """Load a version folder; returns what answers a row."""
    loaded = tf.saved_model.load(request["path"])

    def ask(row):
        name = row["signature"]
        if name not in loaded.signatures:
            raise ValueError(
                "no signature {}; it has {}".format(name, ", ".join(sorted(loaded.signatures)))
            )
        signature = loaded.signatures[name]
        taken = signature.structured_input_signature[1]
        inputs = {
            key: tf.constant(_encoded(values), taken[key].dtype)
            for key, values in row["inputs"].items()
        }
        outputs = signature(**inputs)
        return {key: _decoded(values.numpy().tolist()) for key, values in outputs.items()}

    return ask


def _encoded(values):
    """Texts as UTF-8, which has no bytes for half of a surrogate pair."""
    return [
        value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values
    ]


def _decoded(values):
    """Texts of bytes, in a row's list of them too."""
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    return values.decode("utf-8", "replace") if isinstance(values, bytes) else values


if __name__ == "__main__":
    serve(import_runtime, load)

"""Ask a `.tflite` in LiteRT, on one thread.

A row is `{"ids": [...], "segment_ids": [...]}` without padding, and `"position": [...]` of a file
that fills gaps; its answer is what the one output
named `output` in the request gives for it, or what each of several does.
"""

from protocol import serve

INPUTS = ("ids", "mask", "segment_ids")


def import_runtime():
    """Import the interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter


def load(interpreter_class, request):
    """Load a file; returns what answers a row."""
    import numpy as np

    interpreter = interpreter_class(model_path=request["path"], num_threads=1)
    interpreter.allocate_tensors()
    inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
    outputs = {tensor["name"]: tensor for tensor in interpreter.get_output_details()}
    several = isinstance(request["output"], list)
    wanted = request["output"] if several else [request["output"]]
    taken = INPUTS + (("position",) if request["output"] == "logits" else ())
    if sorted(inputs) != sorted(taken) or sorted(outputs) != sorted(wanted):
        raise ValueError(
            "expected inputs {} and the output {}, received inputs {} and outputs {}".format(
                ", ".join(taken), ", ".join(wanted), ", ".join(inputs), ", ".join(outputs)
            )
        )
    places = [outputs[name]["index"] for name in wanted]
    is_dynamic = -1 in inputs["ids"]["shape_signature"]
    current = [0]

    def ask(row):
        ids = row["ids"]
        length = len(ids) if is_dynamic else int(inputs["ids"]["shape"][1])
        if is_dynamic and length != current[0]:
            for tensor in inputs.values():
                interpreter.resize_tensor_input(tensor["index"], [1, length])
            interpreter.allocate_tensors()
            current[0] = length
        values = {"ids": ids, "mask": [1] * len(ids), "segment_ids": row["segment_ids"]}
        for name, row_values in values.items():
            padded = np.full((1, length), request["padding_id"] if name == "ids" else 0, np.int32)
            padded[0, : len(ids)] = row_values
            interpreter.set_tensor(inputs[name]["index"], padded)
        if "position" in inputs:
            place = np.array([row["position"]], np.int32)
            interpreter.set_tensor(inputs["position"]["index"], place)
        interpreter.invoke()
        found = [interpreter.get_tensor(place)[0].tolist() for place in places]
        return found if several else found[0]

    return ask


if __name__ == "__main__":
    serve(import_runtime, load)

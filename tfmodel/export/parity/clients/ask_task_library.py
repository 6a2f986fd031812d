"""Ask a `.tflite` in the Task Library 0.4 (tflite-support), which tokenizes by itself.

Rows and answers are those of `ask_mediapipe.py`; where the request's `output` is a list, the file
is a question answerer: a row is `[question, context]`, its answer `[text, start, end, logit]` of
several spans, the best first, in words of the context and in tokens of the row. One thread.
"""

from protocol import serve


def import_runtime():
    """Import the Task Library's text tasks."""
    from tflite_support.task import core, processor, text

    return core, processor, text


def load(runtime, request):
    """Load a file; returns what answers a text."""
    core, processor, text = runtime
    base_options = core.BaseOptions(file_name=request["path"], num_threads=1)
    if request["output"] == "vector":
        embedder = text.TextEmbedder.create_from_options(
            text.TextEmbedderOptions(base_options, processor.EmbeddingOptions())
        )
        return lambda row: embedder.embed(row).embeddings[0].feature_vector.value.tolist()
    if isinstance(request["output"], list):
        answerer = text.BertQuestionAnswerer.create_from_options(
            text.BertQuestionAnswererOptions(base_options)
        )

        def ask_question(row):
            answers = answerer.answer(context=row[1], question=row[0]).answers
            return [[each.text, each.pos.start, each.pos.end, each.pos.logit] for each in answers]

        return ask_question
    classifier = text.BertNLClassifier.create_from_options(
        text.BertNLClassifierOptions(base_options)
    )

    def ask(row):
        categories = classifier.classify(row).classifications[0].categories
        ordered = sorted(categories, key=lambda category: category.index)
        return [[category.category_name, category.score] for category in ordered]

    return ask


if __name__ == "__main__":
    serve(import_runtime, load)

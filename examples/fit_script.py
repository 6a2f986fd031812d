"""A Keras `fit` script of one's own: tfmodel's tokenizer, encoder and optimizer, nothing else.

Run: python examples/fit_script.py
"""

import keras

import tfmodel as tm

texts = ["what a lovely film", "a waste of two hours", "warm, funny, true", "dull and far too long"]
labels = [1, 0, 1, 0]

keras.utils.set_random_seed(1)
folder = tm.fetch(tm.DEFAULT_ENCODER)  # any Hugging Face BERT folder does
tokenizer = tm.Tokenizer.from_folder(folder, max_length=64)
encoder = tm.load_encoder(folder, sequence=False)
model = tm.tasks.classify.build(encoder, classes=2)
train = tm.batches(texts * 16, labels * 16, tokenizer=tokenizer, batch_size=8, shuffle=True)
optimizer = tm.adamw(2e-4, total_steps=2 * len(train))
model.compile(optimizer, loss=tm.tasks.classify.loss(), metrics=["accuracy"], jit_compile=False)
model.fit(train, epochs=2, shuffle=False)

tm.export_savedmodel(model, tokenizer, "film/savedmodel", labels=["bad", "good"], max_length=64)
print(tm.load("film/savedmodel").predict(["I could watch it again tomorrow"]))

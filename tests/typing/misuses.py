"""Mistakes that a type checker finds; each line that it must refuse ends with a mark. Read by checkers, never run."""

from __future__ import annotations

import pandas as pd

import skytells_nb as sky

client = sky.Skytells()
df = pd.DataFrame({"text": ["a cat"]})

client.chat.completions.create(model="m", messages="Hi", temprature=0.2)  # E
client.chat.completions.create(model="m", messages="Hi", temperature="warm")  # E
client.chat.completions.create(model="m", messages="Hi", max_output_tokens=5)  # E
client.chat.completions.create(model="m", messages=5)  # E
client.chat.completions.create(messages="Hi")  # E
client.chat.completions.create("m", "Hi")  # E
print(client.chat.completions.create(model="m", messages="Hi").final)  # E
print(client.chat.completions.create(model="m", messages="Hi", stream=True).choices)  # E
client.responses.create(model="m", input="Hi", max_tokens=5)  # E
print(client.responses.create(model="m", input="Hi", stream=True).output_text)  # E
client.embeddings.create(model="m", input="Hi", encoding_format="hex")  # E
client.embeddings.create(model="m", input="Hi", dimension=256)  # E
client.models.retrieve(5)  # E
sky.connect(max_inflight=8)  # E
sky.connect(timeout="long")  # E
sky.frame(df["text"])  # E
sky.series(df)  # E
sky.frame(df).embed("text", dimensions="many")  # E
sky.frame(df).complete("{text}", on_error="ignore")  # E
print(sky.frame(df).estimate("{text}").price)  # E
sky.frame(df).complete("{text}", temprature=0.2)  # E
sky.frame(df).complete("{text}", temperature="warm")  # E
sky.frame(df).classify("text", ["a", "b"], budgett=1.0)  # E
sky.frame(df).embed("text", temperature=0.2)  # E
sky.frame(df).translate("text", "French", max_tokens="many")  # E
sky.frame(df).cluster("text", seed=0.5)  # E
sky.series(df["text"]).classify("text", ["a", "b"])  # E
sky.series(df["text"]).classify(["a", "b"], labls=1)  # E
sky.series(df["text"]).classify(["a", "b"], via="magic")  # E
sky.series(df["text"]).classify(["a", "b"], temperature="warm")  # E
sky.series(df["text"]).filter("Is it a pet?", keep="column")  # E
sky.series(df["text"]).dedupe(keep="groups")  # E
sky.series(df["text"]).summarize(by="topic")  # E
sky.series(df["text"]).extract()  # E
sky.plots.semantic_map(df, method="tsne")  # E
sky.widgets.Explorer(df, methods="pca")  # E
sky.conect()  # E

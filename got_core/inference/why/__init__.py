"""Why a picture got its score: from what a person names to the evidence.

    home = WhyHome(storage=…, recipe=…, registry=…)
    model = chosen_model(home, "models:/got/3")
    shown = explain(model, "geneval/scenes/00012")

`home` is where evidence is looked for, `models` finds a model and its results, `samples` the cell that a
person names, `explaining` adds what lies above the benchmarks: registry, takedowns, reviews. `sheet` chooses
pictures. The evidence itself is `got_core.evaluate.why`.
"""

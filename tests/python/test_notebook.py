"""The display in a notebook: tables, pictures and the progress bar, in a real kernel."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf

CELLS = [
    """import numpy as np, rnnfast as rf
corpus = rf.Corpus.from_text("to be or not to be " * 40)
model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=8, seed=0)
history = rf.fit(model, corpus, corpus, epochs=2, batch_size=4, num_steps=10)
history""",
    "model",
    "rf.evaluate(model, corpus)",
    "history.plot()",
    "history.plot('pictures/history.png')\nNone",
    "flow = rf.gradient_flow(model, next(iter(rf.batches(corpus, batch_size=4, num_steps=10))))\nflow",
    "import matplotlib.pyplot as plt\nflow.plot()",
    "rf.LSTM(2, 3, seed=0)",
]


@pytest.mark.slow
def test_a_notebook_shows_tables_pictures_and_the_bar(tmp_path, monkeypatch):
    """A bar needs no ipywidgets, and a missing one warns of nothing."""
    for module in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(module, reason=f"{module} is not installed: no notebook to run")
    import nbclient
    import nbformat

    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in notebook.cells]
    results = [[out.data for out in outputs if out.output_type == "execute_result"] for outputs in shown]
    for i, word in (
        (0, "train perplexity"),
        (1, "parameters"),
        (2, "bits_per_token"),
        (5, "last step"),
        (7, "weight_hh_l0"),
    ):
        assert len(results[i]) == 1
        assert "<table>" in results[i][0]["text/html"]
        assert word in results[i][0]["text/html"]
    for i in (3, 6):  # without and with pyplot's own way to show figures
        assert sum("image/png" in out.get("data", {}) for out in shown[i]) == 1
    assert not results[4]
    assert (tmp_path / "pictures" / "history.png").exists()
    texts = "".join(out.get("text", "") for outputs in shown for out in outputs)
    assert "Warning" not in texts
    widgets = [out for out in shown[0] if "application/vnd.jupyter.widget-view+json" in out.get("data", {})]
    assert "epoch 1/2" in texts or widgets, "no progress bar was shown"


def test_tables_escape_what_they_show_and_abridge_what_is_long():
    history = rf.History([{"epoch": i, "train_perplexity": 2.0 + i} for i in range(500)], stopped="<b>enough</b>")
    shown = history._repr_html_()
    assert "&lt;b&gt;enough&lt;/b&gt;" in shown
    assert "460 more" in shown
    assert shown.count("<tr>") == 42
    assert "History of 0 epochs" in rf.History()._repr_html_()


@pytest.mark.parametrize(
    "layer",
    [rf.RNN(2, 3, seed=0), rf.Linear(2, 3, seed=0), rf.LayerNorm(3), rf.Conv1d(2, 3, 2, seed=0), rf.SelfAttention(4, 2, seed=0), rf.Seq2Seq(9, 8, hidden_size=3)],
)  # fmt: skip
def test_every_layer_and_model_has_a_table_of_its_parameters(layer):
    shown = layer._repr_html_()
    total = sum(np.asarray(w).size for w in layer.parameters().values())
    assert f"{total:,} parameters" in shown
    for name in layer.parameters():
        assert f"<td>{name}</td>" in shown

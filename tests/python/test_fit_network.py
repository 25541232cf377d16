"""rf.fit and rf.evaluate for networks: data, losses, metrics, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from stopping import Enough, StopAt

import rnnfast as rf

random = np.random.default_rng(0)
X = random.normal(size=(9, 40, 3)).astype(np.float32)
Y = np.cumsum(X, 0).sum(-1)[..., None]
IDS = random.integers(0, 5, (9, 40))


def series_net(batch_first=False):
    gru = rf.GRU(3, 12, batch_first=batch_first, seed=0)
    return rf.Sequential(gru, rf.Dropout(0.1), rf.Linear(12, 1, seed=1), batch_first=batch_first, seed=0)


def tagger(classes=2):
    return rf.Sequential(
        rf.Embedding(5, 6, seed=0),
        rf.GRU(6, 8, bidirectional=True, seed=1),
        rf.Linear(16, classes, seed=2),
        seed=0,
    )


def pooled(classes=3):
    return rf.Sequential(rf.LSTM(3, 8, seed=0), rf.Pool("last"), rf.Linear(8, classes, seed=1), seed=0)


def weights_of(net):
    return net.state_dict()


def same(a, b):
    return all(np.array_equal(a.state_dict()[n], w) for n, w in b.state_dict().items())


OPTIONS = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "progress": False}


def test_training_lowers_the_loss_and_records_metrics():
    net = series_net()
    before = rf.evaluate(net, (X, Y), loss="mse", metrics=["mae"])
    history = rf.fit(
        net, (X, Y), (X, Y), loss="mse", metrics=["mae", "mse"], epochs=25, batch_size=16, lr=1e-2, keep_best=True
    )
    after = rf.evaluate(net, (X, Y), loss="mse", metrics=["mae"])
    assert after.loss < 0.2 * before.loss
    assert after.loss == history.best["valid_loss"]
    assert history[-1]["valid_mse"] == pytest.approx(history[-1]["valid_loss"], rel=1e-6)
    assert history[0]["predictions"] == 9 * 40
    assert after.as_dict() == {"loss": after.loss, "mae": after.metrics["mae"], "predictions": 360}


def test_a_step_is_that_of_the_loop_by_hand():
    net, other = pooled(), pooled()
    target = random.integers(0, 3, 40)
    rf.fit(
        net,
        (X, target),
        loss="cross_entropy",
        epochs=1,
        batch_size=40,
        lr=0.1,
        optimizer="sgd",
        clip_norm=None,
        sampling="sequential",
    )
    y, backward = other.forward(X)
    _, dy = rf.losses.CrossEntropyLoss().forward(y, target)
    backward(dy)
    rf.SGD(other, lr=0.1).step()
    assert same(net, other)


def test_layouts_lists_and_batches_train_the_same_weights():
    nets = {}
    rows = [X[:, n] for n in range(40)], [Y[:, n] for n in range(40)]
    loader = [(X[:, i : i + 16], Y[:, i : i + 16]) for i in (0, 16, 32)]
    for name, data, first in (
        ("arrays", (X, Y), False), ("rows first", (X.swapaxes(0, 1), Y.swapaxes(0, 1)), True), ("lists", rows, False),
        ("lists, rows first", rows, True), ("examples", rf.Examples(X, Y[..., 0]), False), ("batches", loader, False),
    ):  # fmt: skip
        nets[name] = series_net(batch_first=first)
        own = {} if name == "batches" else {"sampling": "sequential"}
        rf.fit(nets[name], data, data, loss="mse", **OPTIONS, **own)
    assert all(same(net, nets["arrays"]) for net in nets.values())
    found = {rf.evaluate(nets["arrays"], data, loss="mse").loss for data in ((X, Y), rows, loader)}
    assert len(found) == 1


def test_a_row_s_padding_changes_nothing():
    lengths = random.integers(1, 10, 40)
    ragged = [IDS[:n, i] for i, n in enumerate(lengths)], [IDS[:n, i] % 2 for i, n in enumerate(lengths)]
    padded = np.where(np.arange(9)[:, None] < lengths, IDS, 0)
    nets = tagger(), tagger()
    rf.fit(nets[0], ragged, loss="cross_entropy", **OPTIONS)
    rf.fit(nets[1], (padded, padded % 2, lengths), loss="cross_entropy", **OPTIONS)
    assert same(*nets)
    one = rf.evaluate(nets[0], ragged, loss="cross_entropy", metrics=["accuracy"], batch_size=3)
    assert one == rf.evaluate(nets[0], (padded, padded % 2, lengths), loss="cross_entropy", metrics=["accuracy"])
    assert one.predictions == lengths.sum()
    masked = np.where(np.arange(9)[:, None] < lengths, padded % 2, -1)
    whole = tagger()
    assert rf.evaluate(whole, (IDS, masked), loss="cross_entropy").predictions == lengths.sum()


def test_weights_of_rows_count_rows_several_times():
    weights = random.integers(0, 3, 40)
    net = series_net()
    weighted = rf.evaluate(net, rf.Examples(X, Y, weights=weights), loss="mse", metrics=["mae"])
    chosen = np.repeat(np.arange(40), weights)
    repeated = rf.evaluate(net, (X[:, chosen], Y[:, chosen]), loss="mse", metrics=["mae"])
    assert weighted.loss == pytest.approx(repeated.loss, rel=1e-12)
    assert weighted.metrics == pytest.approx(repeated.metrics, rel=1e-12)


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_the_train_loss_is_the_mean_over_what_counts(batch_size, shards):
    """With a learning rate of almost 0, that of an evaluation."""
    options = {"loss": "mse", "epochs": 1, "lr": 1e-12, "optimizer": "sgd", "batch_size": batch_size, "shards": shards}
    for weights in ([1, 0, 0, 0, 0, 0], [3, 1, 0, 2, 1, 1]):
        data = rf.Examples(X[:, :6], Y[:, :6], weights=weights)
        net = rf.Sequential(rf.GRU(3, 4, seed=0), rf.Linear(4, 1, seed=1))
        found = rf.fit(net, data, data, progress=False, **options)[0]
        assert found["train_loss"] == pytest.approx(found["valid_loss"], rel=1e-6)


def test_the_train_loss_of_two_outputs_is_the_sum_of_their_means(tmp_path):
    lengths = random.integers(1, 10, 40)
    data = {"x": X, "ids": IDS}, {"tag": IDS % 2, "size": Y[-1]}, lengths
    options = {"loss": {"tag": "cross_entropy", "size": "mse"}, "lr": 1e-12, "optimizer": "sgd", "batch_size": 7}
    found = rf.fit(graph(), data, data, epochs=1, progress=False, **options)[0]
    assert found["train_loss"] == pytest.approx(found["valid_loss"], rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "mae", "huber", "quantile", "binary", "ctc"])
def test_every_loss_trains_per_step_and_per_row(loss):
    width = {"cross_entropy": 3, "quantile": 3, "ctc": 4}.get(loss, 1)
    labels = [random.integers(1, 4, n % 4) for n in range(40)]
    for net in (
        tagger(width),
        rf.Sequential(rf.Embedding(5, 6, seed=0), rf.Pool("mean"), rf.Linear(6, width, seed=1), seed=0),
    ):
        stepwise = not net._pooled
        target = IDS % 3 if loss == "cross_entropy" else (IDS > 2).astype(np.float32)
        target = target if stepwise else target[0]
        if loss == "ctc":
            if not stepwise:
                with pytest.raises(ValueError, match="has no steps, and CTC needs one"):
                    rf.fit(net, (IDS, labels), loss=loss)
                continue
            target = labels
        history = rf.fit(net, (IDS, target), (IDS, target), loss=loss, epochs=8, batch_size=8, lr=2e-2)
        assert history[-1]["valid_loss"] < history[0]["valid_loss"]


def test_ctc_learns_to_spell_what_it_reads():
    """Each label is read for one to four steps in a row, with gaps between them; the network is not told where."""

    def spelled(count):
        x, y = [], []
        for _ in range(count):
            labels = random.integers(1, 5, random.integers(2, 6))
            x.append(
                np.concatenate(
                    [np.r_[np.full(random.integers(1, 4), k), np.zeros(random.integers(1, 3), int)] for k in labels]
                )
            )
            y.append(labels)
        return x, y

    net = rf.Sequential(
        rf.Embedding(5, 8, seed=0), rf.GRU(8, 24, bidirectional=True, seed=1), rf.Linear(48, 5, seed=2), seed=0
    )
    rf.fit(net, spelled(300), loss="ctc", epochs=12, batch_size=16, lr=2e-2, schedule="cosine", clip_norm=5.0)
    found = rf.evaluate(net, spelled(200), loss="ctc", metrics=["error_rate"])
    assert found.metrics["error_rate"] < 0.01


def test_rows_that_cannot_be_spelled_count_in_the_error_rate():
    net = tagger(4)
    data = [IDS[:2, 0], IDS[:, 1]], [[1, 2, 3], [1, 2]]
    loss = rf.losses.CTCLoss(zero_infinity=True)
    found = rf.evaluate(net, data, loss=loss, metrics=["error_rate"])
    each = [
        rf.evaluate(net, ([x], [y]), loss=loss, metrics=["error_rate"]).metrics["error_rate"] for x, y in zip(*data)
    ]
    assert found.predictions == 2
    assert found.metrics["error_rate"] == pytest.approx(np.mean(each))


def graph():
    layers = {
        "sum": (rf.Add(), "x", "rnn0"), "rnn": rf.GRU(3, 6, seed=1), "tag": (rf.Linear(6, 2, seed=2), "rnn"),
        "last": (rf.Pool("last"), "rnn"), "size": rf.Linear(6, 1, seed=3),
    }  # fmt: skip
    return rf.Network(
        inputs={"x": 3, "ids": {"ids": 5}}, layers={"rnn0": (rf.Embedding(5, 3, seed=0), "ids"), **layers}, outputs=["tag", "size"],
        seed=0,
    )  # fmt: skip


def test_several_inputs_and_outputs_have_names():
    data = {"x": X, "ids": IDS}, {"tag": IDS % 2, "size": Y[-1]}
    lengths = np.full(40, 9)
    loss = {"tag": "cross_entropy", "size": rf.losses.HuberLoss(delta=2.0)}
    history = rf.fit(graph(), (*data, lengths), data, loss=loss, **OPTIONS)
    assert history[1]["train_loss"] < history[0]["train_loss"]
    net = graph()
    found = rf.evaluate(net, data, loss=loss, metrics={"first": lambda y, t: np.zeros(y.shape[:-1])})
    assert found.metrics == {"tag.first": 0.0, "size.first": 0.0}
    tag, size = net(X, IDS)
    each = rf.losses.CrossEntropyLoss()(tag, IDS % 2), rf.losses.HuberLoss(delta=2.0)(size, Y[-1])
    assert found.loss == pytest.approx(sum(each), rel=1e-6)


@pytest.mark.parametrize("data", ["arrays", "batches"])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path, data):
    given = (X, Y) if data == "arrays" else [(X[:, i : i + 16], Y[:, i : i + 16]) for i in (0, 16, 32)]
    options = {**OPTIONS, "loss": "mse", "metrics": ["mae"], "keep_best": True, "schedule": "cosine", "epochs": 3}
    whole = series_net()
    history = rf.fit(whole, given, (X, Y), **options)
    for step in (2, 3, 5):
        net, file = series_net(), tmp_path / f"{step}.safetensors"
        with pytest.raises(Enough):
            rf.fit(net, given, (X, Y), checkpoint=file, callbacks=[StopAt(step)], **options)
        net = series_net()
        resumed = rf.fit(net, given, (X, Y), checkpoint=file, resume=True, **options)
        assert same(net, whole)
        assert resumed.column("valid_loss") == history.column("valid_loss")
        assert same(rf.load(file), net) or rf.load(file).kind == "network"
    with pytest.raises(ValueError, match=r"train is one text|loss is '2: MSELoss|loss is "):
        rf.fit(series_net(), given, (X, Y), checkpoint=file, resume=True, **{**options, "loss": "mae"})
    if data == "arrays":
        with pytest.raises(ValueError, match="train is one text, in the checkpoint another one"):
            rf.fit(series_net(), (X + 1, Y), (X, Y), checkpoint=file, resume=True, **options)


def test_results_do_not_depend_on_the_number_of_threads(threads):
    nets = series_net(), series_net()
    for count, net in zip((1, 2), nets):
        threads(count)
        rf.fit(net, (X, Y), loss="huber", **OPTIONS)
    assert same(*nets)


def test_early_stopping_and_plateaus_watch_the_loss(tmp_path):
    pytest.importorskip("matplotlib")
    noise = random.normal(size=Y.shape).astype(np.float32)
    history = rf.fit(
        series_net(), (X, Y), (X, 50 * noise), loss="mse", epochs=30, patience=2, lr=3e-2, schedule="plateau:decay=0.5"
    )
    assert history.stopped is None or history.stopped.startswith("no lower validation loss for 2 epochs")
    assert history.best["valid_loss"] == min(history.column("valid_loss"))
    history.plot(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_a_dataloader_is_a_list_of_batches():
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    loader = data.DataLoader(
        data.TensorDataset(torch.tensor(X.swapaxes(0, 1)), torch.tensor(Y.swapaxes(0, 1))), batch_size=16
    )
    net = series_net(batch_first=True)
    rf.fit(net, loader, loader, loss="mse", **OPTIONS)
    other = series_net(batch_first=True)
    rf.fit(other, (X.swapaxes(0, 1), Y.swapaxes(0, 1)), loss="mse", sampling="sequential", **OPTIONS)
    assert same(net, other)


def test_mistakes_are_named():
    net = series_net()
    for call, error, match in (
        (lambda: rf.fit(net, (X, Y)), ValueError, "a network needs a loss"),
        (lambda: rf.evaluate(net, (X, Y)), ValueError, "a network needs a loss"),
        (lambda: rf.fit(net, X, loss="mse"), TypeError, r"expected \(x, y\)"),
        (lambda: rf.fit(net, (X,), loss="mse"), TypeError, r"a tuple of 1, expected \(x, y\)"),
        (lambda: rf.fit(net, (X, Y[:, :3]), loss="mse"), ValueError, "40 rows in x of 'input', 3 rows in y"),
        (lambda: rf.fit(net, (X[..., :2], Y), loss="mse"), ValueError, r"expected \(T, N, 3\), or a list of sequences"),
        (lambda: rf.fit(net, (X, Y[:4]), loss="mse"), ValueError, "target has shape"),
        (lambda: rf.fit(net, ([X[:, 0], X[:3, 1]], [Y[:, 0], Y[:, 1]]), loss="mse"), ValueError, "sequence 1 has 3 steps in x, and 9 in y"),
        (lambda: rf.fit(net, ([X[:, 0]], [Y[:, 0]], [3]), loss="mse"), ValueError, "which have their own"),
        (lambda: rf.fit(net, iter([(X, Y)]), loss="mse"), TypeError, "can be read only once"),
        (lambda: rf.fit(net, [], loss="mse"), ValueError, "0 batches"),
        (lambda: rf.fit(net, (X, Y), loss="mse", num_steps=3), ValueError, "num_steps is 3"),
        (lambda: rf.fit(net, (X, Y), loss="mse", metrics=["r2"]), ValueError, "expected one of accuracy, mae"),
        (lambda: rf.fit(net, (X, Y), (X, Y), loss="mse", metrics=["accuracy", "error_rate"], epochs=1), ValueError, "error_rate is for ctc"),
        (lambda: rf.fit(net, (X, Y), loss={"out": "mse"}), ValueError, "expected the outputs: 2"),
        (lambda: rf.fit(graph(), (X, Y), loss="mse"), ValueError, "give loss={name: loss"),
        (lambda: rf.fit(tagger(), (IDS, IDS / 2), loss="cross_entropy"), TypeError, "the ids of classes"),
        (lambda: rf.fit(rf.LanguageModel(5, hidden_size=3), IDS[0], loss="mse"), ValueError, "has its own loss"),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            call()

"""Keras files as networks. Where Keras is installed it writes them, with PyTorch as its backend; reading them needs h5py alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import rnnfast as rf

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
# Keras gives its arrays to PyTorch by an interface that NumPy calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TOLERANCE = 1e-5  # float32 sums in another order, functions of another library


@pytest.fixture(scope="module")
def keras():
    """Keras on PyTorch."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", reason="Keras is not installed")


def random_model(keras, seed):
    """A chain or a graph of Keras layers, and an input."""
    layers, random = keras.layers, np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    ids, width = bool(random.integers(3) == 0), int(random.integers(2, 6))
    given = keras.Input((None,), dtype="int32") if ids else keras.Input((None, width))
    x = layers.Embedding(9, width)(given) if ids else given
    for _ in range(int(random.integers(1, 6))):
        out, both = int(random.integers(2, 6)), bool(random.integers(2))
        kind = str(
            random.choice(
                ["lstm", "gru", "rnn", "dense", "conv", "norm", "layer norm", "activation", "residual", "dropout"]
            )
        )
        rnn = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}.get(kind)
        if rnn is not None:
            form = {"reset_after": bool(random.integers(2))} if kind == "gru" else {}
            layer = rnn(out, return_sequences=True, use_bias=bool(random.integers(2)), **form)
            x = (
                layers.Bidirectional(layer, merge_mode=str(random.choice(["concat", "sum", "ave", "mul"])))(x)
                if both
                else layer(x)
            )
        elif kind == "dense":
            x = layers.TimeDistributed(layers.Dense(out))(x) if both else layers.Dense(out, activation="elu")(x)
        elif kind == "conv":
            x = layers.Conv1D(out, 3, padding=str(random.choice(["same", "causal"])), activation="relu")(x)
        elif kind == "norm":
            norm = layers.BatchNormalization()
            x = norm(x)
            norm.set_weights([random.uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])
        elif kind == "residual":
            x = random.choice([layers.Add, layers.Multiply, layers.Concatenate])()([x, layers.Dense(x.shape[-1])(x)])
        else:
            plain = {"layer norm": layers.LayerNormalization, "dropout": lambda: layers.Dropout(0.3)}
            x = plain.get(kind, lambda: layers.Activation(str(random.choice(["tanh", "sigmoid", "silu", "relu"]))))()(x)
    end = int(random.integers(4))
    if end == 1:
        x = random.choice([layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D])()(x)
    elif end == 2:
        x = layers.Bidirectional(layers.GRU(3))(x)
    elif end == 3:
        x = layers.LSTM(3, go_backwards=bool(random.integers(2)))(x)
    x = layers.Dense(2, name="head")(x)
    shape = (3, 8)
    return keras.Model(given, x), random.integers(0, 9, shape) if ids else random.normal(size=(*shape, width)).astype(
        np.float32
    )


def run(keras, model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.ops.convert_to_numpy(model(x))


def difference(keras, seed, folder):
    model, x = random_model(keras, seed)
    path = folder / ("model.keras" if seed % 2 else "model.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that .h5 is old
        model.save(path)
    return float(np.abs(rf.from_keras(path)(x) - run(keras, model, x)).max())


@pytest.mark.parametrize("seed", range(8))
def test_a_random_model_gives_the_same_outputs(keras, seed, tmp_path):
    assert difference(keras, seed, tmp_path) < TOLERANCE


@pytest.mark.slow
def test_fifty_random_models_give_the_same_outputs(keras, tmp_path):
    assert max(difference(keras, seed, tmp_path) for seed in range(100, 150)) < TOLERANCE


def test_masks_become_lengths_and_a_warning_says_so(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, 3)), layers.Masking(), layers.LSTM(4), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="layer 'masking' masks steps"):
        net = rf.from_keras(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    x[1, 4:] = 0
    np.testing.assert_allclose(net(x, lengths=[6, 4]), run(keras, model, x), atol=TOLERANCE)


PARTS = {
    "softmax": lambda k: k.Dense(5, activation="softmax"), "leaky": lambda k: k.LeakyReLU(negative_slope=0.2), "elu": lambda k: k.ELU(0.7),
    "relu6": lambda k: k.ReLU(max_value=6), "gelu": lambda k: k.Activation("gelu"), "softplus": lambda k: k.Activation("softplus"),
    "hard": lambda k: k.Dense(5, activation="hard_sigmoid"), "max": lambda k: k.MaxPooling1D(2), "mean": lambda k: k.AveragePooling1D(3, 1, padding="same"),
    "strided": lambda k: k.Conv1D(6, 3, strides=2, groups=2), "norm": lambda k: k.BatchNormalization(), "layer": lambda k: k.Softmax(),
}  # fmt: skip


def test_parts_and_a_flattened_sequence_give_the_same_outputs(keras, tmp_path):
    x = np.random.default_rng(0).normal(0, 2, (3, 8, 4)).astype(np.float32)
    for name, make in PARTS.items():
        layers = [
            keras.Input((8, 4)),
            keras.layers.Activation("tanh"),
            make(keras.layers),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
        model = keras.Sequential(layers)
        model.save(tmp_path / "model.keras")
        ours = rf.from_keras(tmp_path / "model.keras")(x)
        np.testing.assert_allclose(ours, run(keras, model, x), atol=TOLERANCE, err_msg=name)


def test_the_hard_sigmoid_of_an_old_file_is_that_of_old_keras(tmp_path):
    dense = [np.eye(3, dtype=np.float32), np.zeros(3, np.float32)]
    config = {"name": "a", "units": 3, "activation": "hard_sigmoid", "batch_input_shape": [None, 7, 3]}
    write_h5(tmp_path / "old.h5", [{"class_name": "Dense", "config": config}], {"a": dense})
    x = np.random.default_rng(0).normal(0, 3, (2, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(rf.from_keras(tmp_path / "old.h5")(x), np.clip(0.2 * x + 0.5, 0, 1), atol=TOLERANCE)


def write_h5(path, layers, arrays, **attributes):
    """An HDF5 file as Keras 2 writes it."""
    with h5py.File(path, "w") as file:
        config = {"class_name": "Sequential", "config": layers}
        file.attrs.update({"keras_version": "2.2.4", "model_config": json.dumps(config), **attributes})
        for name, values in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{i}:0".encode() for i in range(len(values))]
            for i, value in enumerate(values):
                group[f"{name}/{i}:0"] = value


def test_an_old_file_is_read_without_keras(tmp_path):
    random = np.random.default_rng(0)
    lstm = [random.normal(size=shape).astype(np.float32) for shape in ((3, 20), (5, 20), (20,))]
    dense = [random.normal(size=shape).astype(np.float32) for shape in ((5, 2), (2,))]
    options = {
        "name": "a",
        "units": 5,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "return_sequences": False,
    }
    layers = [
        {"class_name": "LSTM", "config": {**options, "batch_input_shape": [None, 7, 3]}},
        {"class_name": "Dropout", "config": {"name": "b", "rate": 0.2}},
        {"class_name": "Dense", "config": {"name": "c", "units": 2, "activation": "tanh"}},
    ]
    write_h5(tmp_path / "old.h5", layers, {"a": lstm, "c": dense})
    program = (
        f"import sys, rnnfast as rf; rf.from_keras({str(tmp_path / 'old.h5')!r}); assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    net = rf.from_keras(tmp_path / "old.h5")
    layer = rf.LSTM(3, 5, batch_first=True)
    layer.load_state_dict(
        {"weight_ih_l0": lstm[0].T, "weight_hh_l0": lstm[1].T, "bias_ih_l0": lstm[2], "bias_hh_l0": np.zeros(20)}
    )
    x = random.normal(size=(4, 7, 3)).astype(np.float32)
    expected = np.tanh(layer(x)[0][:, -1] @ dense[0] + dense[1])
    np.testing.assert_allclose(net(x), expected, atol=TOLERANCE)
    options["recurrent_activation"] = "softsign"
    write_h5(
        tmp_path / "odd.h5",
        [{"class_name": "LSTM", "config": {**options, "batch_input_shape": [None, 7, 3]}}],
        {"a": lstm},
    )
    with pytest.raises(ValueError, match="layer 'a', LSTM: has the activations tanh and softsign"):
        rf.from_keras(tmp_path / "odd.h5")


def test_what_cannot_be_taken_is_named(tmp_path):
    write_h5(
        tmp_path / "odd.h5",
        [{"class_name": "Capsule", "config": {"name": "odd", "batch_input_shape": [None, 7, 3]}}],
        {},
    )
    with pytest.raises(ValueError, match="layer 'odd', Capsule: networks of rnnfast have no such layer"):
        rf.from_keras(tmp_path / "odd.h5")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(ValueError, match="holds weights alone"):
        rf.from_keras(tmp_path / "weights.h5")
    (tmp_path / "text.keras").write_text("no archive")
    with pytest.raises(ValueError, match="is not a Keras file"):
        rf.from_keras(tmp_path / "text.keras")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        rf.from_keras(tmp_path / "missing.keras")


def test_the_example_of_the_reference_runs(keras):
    import doctest

    from rnnfast.interop import keras_read

    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder().find(rf.from_keras, globs={**vars(keras_read), "np": np}):
        runner.run(example)
    assert (runner.failures, runner.tries) == (0, 4)

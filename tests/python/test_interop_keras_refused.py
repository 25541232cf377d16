"""What a Keras file says counts: options, initial states and classes are taken as Keras means them, or refused by name; never ignored."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

import rnnfast as rf

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
random = np.random.default_rng(0)
LSTM = [random.normal(size=shape).astype(np.float32) for shape in ((3, 20), (5, 20), (20,))]
GRU = [random.normal(size=shape).astype(np.float32) for shape in ((3, 15), (5, 15), (2, 15))]
DENSE = [random.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4,))]
CONV = [random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (4,))]
NORM = [np.ones(3, np.float32)] * 4
RNN = {"units": 5, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "return_sequences": True}
SHAPE = {"batch_input_shape": [None, 7, 3]}


def entry(kind, name="a", *, nodes=None, **options):
    given = {"class_name": kind, "name": name, "config": {"name": name, **options}}
    return given if nodes is None else {**given, "inbound_nodes": nodes}


def write(path, config, arrays):
    """An HDF5 file with a model's description and its layers' arrays."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"keras_version": "3.0.0", "model_config": json.dumps(config)})
        for name, values in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{i}:0".encode() for i in range(len(values))]
            for i, value in enumerate(values):
                group[f"{name}/{i}:0"] = value
    return path


def chain(*layers):
    return {"class_name": "Sequential", "config": list(layers)}


def graph(*layers):
    inputs = [
        entry("InputLayer", "x", batch_input_shape=[None, 7, 3], nodes=[]),
        entry("InputLayer", "h", batch_input_shape=[None, 7, 3], nodes=[]),
    ]
    return {
        "class_name": "Functional",
        "config": {"layers": [*inputs, *layers], "output_layers": [[layers[-1]["name"], 0, 0]]},
    }


def tensor(name, place=0):
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 7, 3], "dtype": "float32", "keras_history": [name, 0, place]},
    }


def inner(kind="LSTM", **options):
    return {"class_name": kind, "config": {**RNN, **options}}


BOTH = {"a": LSTM + LSTM}
REFUSED = {
    "an initial state of Keras 2": ("layer 'a', LSTM: is called with initial_state", graph(entry("LSTM", **RNN, nodes=[[["x", 0, 0, {"initial_state": [["h", 0, 0]]}]]])), {"a": LSTM}),
    "an initial state of Keras 3": ("layer 'a', LSTM: is called with initial_state", graph(entry("LSTM", **RNN, nodes=[{"args": [tensor("x")], "kwargs": {"initial_state": [tensor("h")], "training": False}}])), {"a": LSTM}),
    "initial states as arrays": ("layer 'a', GRU: reads 2 arrays, such as initial states", graph(entry("GRU", **RNN, reset_after=True, nodes=[{"args": [tensor("x"), [tensor("h")]], "kwargs": {}}])), {"a": GRU}),
    "a mask of one's own": ("layer 'a', LSTM: reads a mask from h", graph(entry("LSTM", **RNN, nodes=[{"args": [tensor("x")], "kwargs": {"mask": tensor("h")}}])), {"a": LSTM}),
    "training": ("layer 'a', Dropout: is called with training", graph(entry("Dropout", rate=0.5, nodes=[[["x", 0, 0, {"training": True}]]])), {}),
    "a state of another layer": ("output 1 of layer 'x' is read", graph(entry("Dense", nodes=[{"args": [tensor("x", 1)], "kwargs": {}}])), {"a": DENSE}),
    "channels first in a pool": ("layer 'a', MaxPooling1D: has data_format='channels_first'", chain(entry("MaxPooling1D", pool_size=2, data_format="channels_first", **SHAPE)), {}),
    "channels first in a mean": ("GlobalAveragePooling1D: has data_format='channels_first'", chain(entry("GlobalAveragePooling1D", data_format="channels_first", **SHAPE)), {}),
    "channels first in a flatten": ("Flatten: has data_format='channels_first'", chain(entry("Flatten", data_format="channels_first", **SHAPE)), {}),
    "channels first in a convolution": ("Conv1D: has data_format='channels_first'", chain(entry("Conv1D", data_format="channels_first", **SHAPE)), {"a": CONV}),
    "time first": ("LSTM: has time_major=True", chain(entry("LSTM", **RNN, **SHAPE, time_major=True)), {"a": LSTM}),
    "an unknown option": ("Dense: has lora_rank=4", chain(entry("Dense", lora_rank=4, **SHAPE)), {"a": DENSE}),
    "a backward layer with another activation": (r"differs from its forward layer \(recurrent_activation\)", chain(entry("Bidirectional", layer=inner(), backward_layer=inner(recurrent_activation="relu", go_backwards=True), **SHAPE)), BOTH),
    "a backward layer of another kind": ("differs from its forward layer", chain(entry("Bidirectional", layer=inner(), backward_layer=inner("GRU", go_backwards=True), **SHAPE)), BOTH),
    "a forward layer that goes backwards": ("goes backwards", chain(entry("Bidirectional", layer=inner(go_backwards=True), **SHAPE)), BOTH),
    "an inner option": ("Bidirectional: has time_major=True", chain(entry("Bidirectional", layer=inner(time_major=True), **SHAPE)), BOTH),
    "a user's class of the same name": ("mine>Dense: networks of rnnfast have no such layer", chain({**entry("Dense", **SHAPE), "module": None, "registered_name": "mine>Dense"}), {"a": DENSE}),
    "a user's module": ("mine.layers.LSTM: networks", chain({**entry("LSTM", **RNN, **SHAPE), "module": "mine.layers", "registered_name": "LSTM"}), {"a": LSTM}),
    "a wrapped class of a user": ("wraps a layer mine.Dense", chain(entry("TimeDistributed", layer={**entry("Dense"), "module": "mine"}, **SHAPE)), {"a": DENSE}),
    "several axes": (r"BatchNormalization: has \[1, 2\] where one number", chain(entry("BatchNormalization", axis=[1, 2], **SHAPE)), {"a": NORM}),
    "quantized weights": ("has quantized weights", chain(entry("Dense", dtype={"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}, **SHAPE)), {"a": DENSE}),
    "too many arrays": ("Dense: has 3 arrays in the file, expected 2", chain(entry("Dense", **SHAPE)), {"a": [*DENSE, DENSE[1]]}),
    "too few arrays": ("LSTM: has 2 arrays in the file, expected 3", chain(entry("LSTM", **RNN, **SHAPE)), {"a": LSTM[:2]}),
    "integer weights": ("has the type int8, expected floating-point numbers", chain(entry("Dense", **SHAPE)), {"a": [a.astype(np.int8) for a in DENSE]}),
    "weights that do not fit": ("layer 'a', Dense: a product with weights", chain(entry("Dense", **SHAPE)), {"a": [DENSE[0].T, DENSE[1]]}),
    "a loop": ("layer 'a' reads b, which reads it", graph(entry("Dense", nodes=[[["b", 0, 0, {}]]]), entry("Dense", "b", nodes=[[["a", 0, 0, {}]]])), {"a": DENSE, "b": DENSE}),
    "an odd entry": (r"the file is not as Keras writes it \(KeyError: 'class_name'\)", chain({"config": {}}), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_network_cannot_do_is_refused_by_name(name, tmp_path):
    reason, config, arrays = REFUSED[name]
    with pytest.raises(ValueError, match=f"model.h5: .*{reason}"):
        rf.from_keras(write(tmp_path / "model.h5", config, arrays))


def test_equal_layers_of_both_directions_and_stateful_layers_are_taken(tmp_path):
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    plain = rf.from_keras(write(tmp_path / "a.h5", chain(entry("Bidirectional", layer=inner(), **SHAPE)), BOTH))
    other = {"class_name": "LSTM", "config": {**RNN, "name": "back", "dropout": 0.1, "go_backwards": True}}
    both = chain(entry("Bidirectional", layer=inner(stateful=True), backward_layer=other, **SHAPE))
    with pytest.warns(UserWarning, match="layer 'a' is stateful: give the network's states"):
        given = rf.from_keras(write(tmp_path / "b.h5", both, BOTH))
    assert np.array_equal(given(x), plain(x))


def dense_file(path, change):
    write(path, chain(entry("Dense", **SHAPE)), {"a": DENSE})
    with h5py.File(path, "a") as file:
        group = file["model_weights/a/a"]
        del group["0:0"]
        change(group)
    return path


def test_a_file_cannot_make_the_reader_open_others_or_fill_the_memory(tmp_path):
    np.full(12, 7, np.float32).tofile(tmp_path / "secret.bin")
    write(tmp_path / "other.h5", chain(entry("Dense", **SHAPE)), {"a": DENSE})
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "model_weights/a/a/0:0", (3, 4))
    hostile = {
        "is stored in other files": lambda g: g.create_dataset("0:0", (3, 4), "f4", external=[(str(tmp_path / "secret.bin"), 0, 48)]),
        "stored in other files, which": lambda g: g.create_virtual_dataset("0:0", layout),
        "is a link to another place or file": lambda g: g.__setitem__("0:0", h5py.ExternalLink(str(tmp_path / "other.h5"), "model_weights/a/a/0:0")),
        "a link to another place": lambda g: g.__setitem__("0:0", h5py.SoftLink("/model_weights/a/a/1:0")),
        r"would need [\d,]+ MB.*made to fill the memory": lambda g: g.create_dataset("0:0", (2**20, 2**14), "f4", chunks=(1024, 1024), compression="gzip"),
        "there is no array": lambda g: g.create_group("0:0"),
    }  # fmt: skip
    for reason, change in hostile.items():
        with pytest.raises(ValueError, match=reason):
            rf.from_keras(dense_file(tmp_path / "model.h5", change))


def test_an_archive_cannot_fill_the_memory(tmp_path):
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for i, value in enumerate(DENSE):
            file[f"layers/dense/vars/{i}"] = value
    parts = {
        "config.json": json.dumps(chain(entry("Dense", **SHAPE))),
        "metadata.json": '{"keras_version": "3.0.0"}',
        "model.weights.h5": weights.getvalue(),
    }

    def written(**changed):
        with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in {**parts, **changed}.items():
                if data is not None:
                    file.writestr(name, data)
        return tmp_path / "model.keras"

    x = np.ones((2, 7, 3), np.float32)
    np.testing.assert_allclose(rf.from_keras(written())(x), x @ DENSE[0] + DENSE[1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"the part model.weights.h5 would need 70 MB"):
        rf.from_keras(written(**{"model.weights.h5": bytes(70 << 20)}))
    with pytest.raises(ValueError, match=r"an archive without metadata.json"):
        rf.from_keras(written(**{"metadata.json": None}))
    with pytest.raises(ValueError, match=r"the file is not as Keras writes it \(JSONDecodeError"):
        rf.from_keras(written(**{"config.json": "{"}))

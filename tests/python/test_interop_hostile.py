"""Damaged files of other frameworks: whatever bytes a reader gets, it ends with a network or with one sentence."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

import rnnfast as rf

ERRORS = (ValueError, TypeError, OSError)


def damaged(data, seed, count):
    """Copies with flipped, replaced and missing bytes."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        made = bytearray(data)
        for _ in range(int(random.integers(1, 6))):
            place = int(random.integers(len(made)))
            kind = int(random.integers(4))
            if kind == 0:
                made[place] ^= 1 << int(random.integers(8))
            elif kind == 1:
                made[place] = int(random.integers(256))
            elif kind == 2:
                made[place : place + 4] = int(random.choice([0, 1, 0x7F, 0xFF])).to_bytes(1, "little") * 4
            else:
                del made[place : place + int(random.integers(1, 9))]
        yield bytes(made)
    for _ in range(count // 10):
        yield data[: int(random.integers(len(data)))]


def check(read, data, path, seed=0, count=70):
    """Every damaged copy is read, or refused in one line that is more than another library's word."""
    with np.errstate(all="ignore"):  # damaged weights
        for i, made in enumerate(damaged(data, seed, count)):
            path.write_bytes(made)
            try:
                read(path)
            except ERRORS as error:
                text = str(error)
                assert len(text.split()) > 3, (i, text)
                assert "\n" not in text, (i, text)


def dense_and_gru(random):
    return {
        "gru": [random.normal(size=shape).astype(np.float32) for shape in ((3, 12), (4, 12), (2, 12))],
        "dense": [random.normal(size=shape).astype(np.float32) for shape in ((4, 2), (2,))],
    }


def keras_config():
    gru = {
        "units": 4,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "reset_after": True,
        "return_sequences": True,
    }
    layers = [
        {"class_name": "GRU", "config": {"name": "gru", **gru, "batch_input_shape": [None, None, 3]}},
        {"class_name": "Dense", "config": {"name": "dense", "activation": "relu"}},
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": layers}})


@pytest.mark.filterwarnings("ignore")  # of damaged masks and numbers
def test_damaged_keras_files(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    arrays = dense_and_gru(np.random.default_rng(0))
    old, new = io.BytesIO(), io.BytesIO()
    with h5py.File(old, "w") as file:
        file.attrs.update({"keras_version": "2.4.0", "model_config": keras_config()})
        for name, values in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{i}".encode() for i in range(len(values))]
            group.update({f"{name}/{i}": value for i, value in enumerate(values)})
    with h5py.File(new, "w") as file:
        for name, values in arrays.items():
            part = "gru/cell" if name == "gru" else name
            file.update({f"layers/{part}/vars/{i}": value for i, value in enumerate(values)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", keras_config())
        file.writestr("metadata.json", '{"keras_version": "3.1.0"}')
        file.writestr("model.weights.h5", new.getvalue())
    for data, name in ((old, "a.h5"), (archive, "a.keras")):
        (tmp_path / name).write_bytes(data.getvalue())
        assert [entry["type"] for entry in rf.from_keras(tmp_path / name).config["layers"]][:1] == ["recurrent"]
        check(rf.from_keras, data.getvalue(), tmp_path / name)
    words = keras_config().encode()

    def described(path):
        with zipfile.ZipFile(path.with_suffix(".keras"), "w") as file:
            file.writestr("config.json", path.read_bytes())
            file.writestr("metadata.json", '{"keras_version": "3.1.0"}')
            file.writestr("model.weights.h5", new.getvalue())
        rf.from_keras(path.with_suffix(".keras"))

    check(described, words, tmp_path / "config.json", seed=1)


def test_damaged_archives_of_arrays(tmp_path):
    layer, archive, packed = rf.GRU(3, 4, seed=0), io.BytesIO(), io.BytesIO()
    arrays = {
        **{f"rnn_{name}": value for name, value in layer.state_dict().items()},
        "fc_w": np.ones((2, 4), np.float32),
    }
    np.savez(archive, **arrays)
    np.savez_compressed(packed, **arrays)
    for data in (archive, packed):
        (tmp_path / "a.npz").write_bytes(data.getvalue())
        assert len(rf.from_arrays(tmp_path / "a.npz", "gru:rnn", "linear:fc").config["layers"]) == 2
        check(lambda path: rf.from_arrays(path, "gru:rnn", "linear:fc"), data.getvalue(), tmp_path / "a.npz")


def test_an_archive_of_arrays_cannot_fill_the_memory(tmp_path):
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("fc_w.npy", header.getvalue())
    with pytest.raises(
        ValueError, match=r"the array fc_w.npy has the shape \(1099511627776,\), and the archive holds another size"
    ):
        rf.from_arrays(path, "linear:fc")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fc_w.npy", bytes(70 << 20))
    with pytest.raises(ValueError, match="the array fc_w.npy would need 70 MB"):
        rf.from_arrays(path, "linear:fc")
    np.savez(path, fc_w=np.array([[{}]], object))
    with pytest.raises(ValueError, match="is not a NumPy archive"):
        rf.from_arrays(path, "linear:fc")
    np.savez(path, fc_w=np.ones((2, 3), complex))
    with pytest.raises(ValueError, match="the array 'fc_w' has the type complex128, expected numbers"):
        rf.from_arrays(path, "linear:fc")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="is not a NumPy archive"):
        rf.from_arrays(tmp_path / "a.npy", "linear:fc")


@pytest.mark.parametrize("package", ["onnx", "h5py", ""])
def test_a_path_with_a_line_break_is_escaped_in_messages(package, tmp_path):
    if package:
        pytest.importorskip(package, reason=f"the {package} package is not installed")
    read = {"onnx": rf.from_onnx, "h5py": rf.from_keras, "": lambda path: rf.from_arrays(path, "linear:fc")}[package]
    path = tmp_path / "two\nlines"
    for error in (FileNotFoundError, ValueError):
        with pytest.raises(error) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert "two\\nlines" in str(raised.value)
        path.write_bytes(b"nothing that any of them reads")


@pytest.mark.filterwarnings("ignore")  # of damaged numbers
def test_damaged_onnx_files(tmp_path):
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    net = rf.Sequential(
        rf.Conv1d(3, 4, 3, padding="same", seed=0), rf.ReLU(), rf.LSTM(4, 4, seed=1), rf.Linear(4, 2, seed=2)
    )
    net.to_onnx(tmp_path / "a.onnx")
    data = (tmp_path / "a.onnx").read_bytes()
    check(rf.from_onnx, data, tmp_path / "a.onnx")
    check(lambda path: rf.onnx.load(path, host="reference"), data, tmp_path / "a.onnx", seed=1, count=60)
    check(rf.onnx.layers, data, tmp_path / "a.onnx", seed=2, count=60)

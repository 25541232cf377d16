"""ONNX files with convolutions along the numbers of each step: spectra of frames, and a published speech detector."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(kind, *inputs, outputs=("",), **options):
    return onnx.helper.make_node(kind, inputs, list(outputs), **options)


def model(nodes, constants, shape, outputs):
    """A file whose input x has this shape."""
    helper = onnx.helper
    values = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))]
    wanted = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(outputs))]
    graph = helper.make_graph(nodes, "graph", given, wanted, values)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def spectrum(square=("Mul", "Mul"), start=1, half=3):
    """Reflected frames, a convolution without its first places, the magnitude of its halves, another convolution, flattened."""
    read = {"Mul": lambda name: ("Mul", name, name), "Pow": lambda name: ("Pow", name, "two")}
    nodes = [
        node("Pad", "x", "pads", outputs=["padded"], mode="reflect"),
        node("Unsqueeze", "padded", "one", outputs=["channel"]),
        node("Conv", "channel", "basis", outputs=["parts"], strides=[4]),
        node("Slice", "parts", "start", "most", "two_axis", outputs=["some"]),
        node("Slice", "some", "zero", "half", "one", outputs=["a"]),
        node("Slice", "some", "half", "most", "one", outputs=["b"]),
        *(node(*read[kind](name), outputs=[name * 2]) for kind, name in zip(square, "ab")),
        node("Add", "aa", "bb", outputs=["sum"]),
        node("Sqrt", "sum", outputs=["sizes"], name="root"),
        node("Conv", "sizes", "kernel", "bias", outputs=["conv"], pads=[1, 1], strides=[2]),
        node("Relu", "conv", outputs=["positive"]),
        node("Flatten", "positive", outputs=["flat"]),
        node("Gemm", "flat", "matrix", outputs=["y"]),
    ]
    places = (28 + 4 + 6 - 8) // 4 + 1 - start
    given = 5 * ((places + 2 - 3) // 2 + 1)
    constants = {
        "pads": [0, 4, 0, 6], "one": [1], "zero": [0], "half": [half], "most": [2**62], "start": [start], "two_axis": [2],
        "two": np.float32(2), "basis": random(6, 1, 8), "kernel": random(5, 3, 3, seed=1), "bias": random(5, seed=2),
        "matrix": random(given, 4, seed=3),
    }  # fmt: skip
    return model(nodes, constants, ["T", 28], ["T", 4])


@pytest.mark.parametrize("square", [("Mul", "Mul"), ("Pow", "Mul"), ("Pow", "Pow")])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_spectrum_inside_each_step_becomes_layers_there(square, start):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    made, x = spectrum(square, start), random(9, 28)
    wanted = runtime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    net = rf.from_onnx(made)
    np.testing.assert_allclose(net(x), wanted, rtol=0, atol=1e-4)  # numbers up to 80
    if start < 2:  # in front of it are as many reflected places as the first result needs
        assert [layer["type"] for layer in net.config["layers"]] == ["time_distributed", "linear"]
        inner = [layer["type"] for layer in net.config["layers"][0]["layers"]]
        assert inner == ["reflection_pad", "conv1d", "magnitude", "conv1d", "activation"]
    step = net.stream()
    for t in range(4):
        np.testing.assert_array_equal(step(x[t]), net(x)[t])


def test_channels_that_are_not_halves_meet_in_a_magnitude_of_their_own():
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    nodes = [
        node("Slice", "x", "zero", "two", "one", outputs=["a"]),
        node("Slice", "x", "three", "five", "one", outputs=["b"]),
        node("Mul", "a", "a", outputs=["aa"]),
        node("Mul", "b", "b", outputs=["bb"]),
        node("Add", "aa", "bb", outputs=["sum"]),
        node("Sqrt", "sum", outputs=["y"]),
    ]
    made = model(nodes, {"zero": [0], "one": [1], "two": [2], "three": [3], "five": [5]}, ["T", 5], ["T", 2])
    x = random(9, 5)
    wanted = runtime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(rf.from_onnx(made)(x), wanted, rtol=0, atol=1e-6)


def test_other_roots_are_refused_by_their_node():
    with pytest.raises(
        ValueError, match="Sqrt node 'root': takes a square root, which networks of rnnfast have of sums"
    ):
        rf.from_onnx(model([node("Sqrt", "x", outputs=["y"], name="root")], {}, ["T", 5], ["T", 5]))


def test_squares_that_are_used_otherwise_are_products():
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    nodes = [
        node("Mul", "x", "x", outputs=["a"]),
        node("Pow", "x", "two", outputs=["b"]),
        node("Add", "a", "b", outputs=["sum"]),
        node("MatMul", "sum", "matrix", outputs=["y"]),
    ]
    made = model(nodes, {"two": np.float32(2), "matrix": random(5, 3)}, ["T", 5], ["T", 3])
    x = random(9, 5)
    wanted = runtime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(rf.from_onnx(made)(x), wanted, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def detector():
    """silero-vad's file, which needs its package from PyPI, not PyTorch."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        pytest.skip("silero-vad is not installed")
    return str(Path(found.origin).parent / "data" / "silero_vad_16k_sequence.onnx")


def voice(frames):
    """A synthetic voice with pauses, as frames of 512 samples with the 64 samples before them."""
    rng, time = np.random.default_rng(0), np.arange(frames * 512 + 64) / 16000
    loud = np.abs(np.sin(time * 2)) * (np.sin(time * 0.3) > 0)
    tones = sum(
        np.sin(2 * np.pi * f * time * (1 + 0.02 * np.sin(5 * time))) / i for i, f in enumerate((140, 280, 700, 1200), 1)
    )
    audio = (0.1 * loud * tones + 0.01 * rng.normal(size=len(time))).astype(np.float32)
    return np.stack([audio[i * 512 : i * 512 + 576] for i in range(frames)])


def test_a_speech_detector_becomes_a_model_file_that_runs_frame_by_frame(detector, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    x, zeros = voice(1200), np.zeros((1, 1, 128), np.float32)
    theirs, h, c = runtime.InferenceSession(detector).run(None, {"input": x, "h": zeros, "c": zeros})
    assert theirs.min() < 0.2
    net = rf.from_onnx(detector)
    run = net.run(x)
    (y,) = run.outputs.values()
    assert np.abs(y.ravel() - theirs).max() < 1e-4
    ((ours_h, ours_c),) = run.state.values()
    np.testing.assert_allclose(ours_h, h[:, 0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours_c, c[:, 0], rtol=1e-4, atol=1e-4)  # up to 20
    net.save(tmp_path / "detector.safetensors")
    loaded = rf.load(tmp_path / "detector.safetensors")
    step = loaded.stream()
    np.testing.assert_array_equal([step(frame) for frame in x[:200]], y[:200])
    int8 = rf.load(tmp_path / "detector.safetensors", weights="int8")
    assert np.abs(int8(x).ravel() - theirs).max() < 0.1

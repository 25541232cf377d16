"""ONNX files: read as networks, run with their recurrent nodes here, and written."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.models.widths import output_width

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
TOLERANCE = 1e-5  # float32 sums in another order, functions of another library


def several(value):
    return value if isinstance(value, tuple) else (value,)


def random_layer(random, kind, width, options):
    """A layer that reads ``width`` numbers, and how many it gives."""
    out, both, plain = int(random.integers(2, 6)), bool(random.integers(2)), {"seed": options["seed"]}
    if kind == "lstm":
        return rf.LSTM(width, out, int(random.integers(1, 3)), bidirectional=both, **options), out * (1 + both)
    if kind == "gru":
        both_biases, after = bool(random.integers(2)), bool(random.integers(2))
        return rf.GRU(width, out, bidirectional=both, bias=both_biases, reset_after=after, **options), out * (1 + both)
    if kind == "rnn":
        return rf.RNN(width, out, nonlinearity=str(random.choice(["tanh", "relu"])), **options), out
    if kind == "linear":
        return rf.Linear(width, out, **plain), out
    if kind == "conv":
        return rf.Conv1d(width, out, 3, padding=str(random.choice(["same", "causal"])), **options), out
    if kind == "inside":
        layer = inside(random, width, out, options["seed"])
        return layer, output_width({"type": layer.kind, **layer.options()}, [width])
    if kind == "strided":
        return rf.Conv1d(width, 2 * width, 3, stride=2, groups=width, padding=[2, 1], dilation=1, **options), 2 * width
    if kind == "batch":
        return batch_norm(random, width, eps=1e-3), width
    if kind == "windows":
        windows = [rf.MaxPool1d, rf.AvgPool1d, lambda *sizes: rf.AvgPool1d(*sizes, count_include_pad=False)]
        return random.choice(windows)(3, int(random.integers(1, 3)), [1, 1]), width
    if kind == "norm":
        return random.choice([rf.LayerNorm, rf.RMSNorm])(width), width
    if kind == "reflection":
        return rf.ReflectionPad1d((1, int(random.integers(2)))), width
    if kind == "magnitude":
        return (rf.Magnitude(), width // 2) if width % 2 == 0 else (rf.Scale(0.5), width)
    if kind == "attention":
        return rf.SelfAttention(width, 1, causal=both, **options), width
    if kind == "attention pool":
        return rf.AttentionPool(width, **plain), width
    if kind == "pool":
        return rf.Pool(str(random.choice(["last", "first", "mean", "max"]))), width
    return random.choice(ACTIVATIONS)(), width


def inside(random, width, out, seed):
    """Layers inside each step, whose numbers are one or two channels."""
    channels = 2 if width % 2 == 0 and random.integers(2) else 1
    steps = width // channels
    first = [rf.ReflectionPad1d((int(random.integers(2)), 1))] if steps > 1 and random.integers(2) else []
    last = [
        random.choice(ELEMENTWISE)(),
        rf.Conv1d(2, out, 2, padding=[1, 0], stride=2, seed=seed),
        rf.Linear(out, 3, seed=seed),
    ]
    last = last[: int(random.integers(4))]
    return rf.TimeDistributed(
        *first, rf.Conv1d(channels, 4, 2, padding=[0, 1], seed=seed), rf.Magnitude(), *last, steps=steps
    )


def batch_norm(random, width, **options):
    layer = rf.BatchNorm1d(width, **options)
    layer.load_state_dict({name: random.uniform(0.5, 2, width) for name in layer.state_dict()})
    return layer


ACTIVATIONS = [
    rf.ReLU, rf.LeakyReLU, rf.Tanh, rf.Sigmoid, rf.GELU, rf.SiLU, rf.ELU, rf.Hardsigmoid, rf.Softplus, rf.Hardtanh, rf.ReLU6,
    rf.Softmax, rf.LogSoftmax, lambda: rf.LeakyReLU(0.3), lambda: rf.ELU(0.7), lambda: rf.Hardsigmoid(0.3, 0.4),
    lambda: rf.Softplus(2.5), lambda: rf.Hardtanh(-0.5, 0.3), lambda: rf.GELU("tanh"),
]  # fmt: skip
ELEMENTWISE = [kind for kind in ACTIVATIONS if kind not in (rf.Softmax, rf.LogSoftmax)]
KINDS = ["lstm", "gru", "rnn", "linear", "conv", "norm", "attention", "pool", "activation", "residual"]
KINDS += ["strided", "batch", "windows", "attention pool", "inside", "magnitude", "reflection"]


def random_network(seed):
    """A chain or a graph of 1 to 8 layers, and an input."""
    random = np.random.default_rng(seed)
    batch_first, ids = bool(random.integers(2)), bool(random.integers(3) == 0)
    width = first = int(random.integers(2, 6))
    layers, name, pooled = {}, "x", False
    if ids:
        layers["embedding"], name = (rf.Embedding(9, width, seed=seed), "x"), "embedding"
    for i in range(int(random.integers(1, 8))):
        kind = str(random.choice(["linear", "norm", "activation"] if pooled else KINDS))
        new, options = f"{kind}{i}", {"seed": seed + i, "batch_first": batch_first}
        if kind == "residual":
            layers[f"{new}_inner"] = (rf.Linear(width, width, seed=seed + i), name)
            layers[new] = (random.choice([rf.Add, rf.Multiply])(), name, f"{new}_inner")
        else:
            layer, width = random_layer(random, kind, width, options)
            layers[new] = (layer, name)
        name, pooled = new, pooled or kind in ("pool", "attention pool")
    net = rf.Network(inputs={"x": {"ids": 9} if ids else first}, layers=layers, batch_first=batch_first, seed=seed)
    shape = (3, 7) if batch_first else (7, 3)
    return net, random.integers(0, 9, shape) if ids else random.normal(size=(*shape, first)).astype(np.float32)


def written_and_read(seed, path):
    """The largest difference from ONNX Runtime, and whether the file read again gives the same bits."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    net, x = random_network(seed)
    y = net(x)
    net.to_onnx(path)
    session = runtime.InferenceSession(path)
    theirs = session.run(None, {"x": x})[0]
    again = rf.from_onnx(path)
    return float(np.max(np.abs(y - theirs) / np.maximum(np.abs(y), 1))), np.array_equal(again(x), y)


@pytest.mark.parametrize("seed", range(25))
def test_onnx_runtime_agrees_with_exported_networks_and_reading_them_gives_the_same_bits(seed, tmp_path):
    difference, same = written_and_read(seed, str(tmp_path / "net.onnx"))
    assert difference < TOLERANCE
    assert same


@pytest.mark.parametrize("place", range(len(ACTIVATIONS)))
def test_an_activation_goes_out_with_its_coefficients_and_comes_back_as_it_was(place, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    net, path = rf.Sequential(rf.Linear(3, 4, seed=0), ACTIVATIONS[place]()), str(tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(0, 3, (5, 2, 3)).astype(np.float32)
    net.to_onnx(path)
    np.testing.assert_allclose(runtime.InferenceSession(path).run(None, {"input": x})[0], net(x), atol=TOLERANCE)
    again = rf.from_onnx(path)
    assert again.config["layers"][1] == {**net.config["layers"][1], "name": "1", "inputs": ["0"]}
    assert np.array_equal(again(x), net(x))


def test_a_sequence_of_fixed_length_is_flattened_and_comes_back(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    net, path = (
        rf.Sequential(rf.LSTM(3, 4, seed=0), rf.Flatten(3), rf.Pool("last"), rf.Linear(12, 2, seed=1)),
        str(tmp_path / "net.onnx"),
    )
    net.to_onnx(path)
    again = rf.from_onnx(path)
    for steps in (3, 7):  # of 7 steps the last is left over
        x = np.random.default_rng(0).normal(size=(steps, 2, 3)).astype(np.float32)
        np.testing.assert_allclose(runtime.InferenceSession(path).run(None, {"input": x})[0], net(x), atol=TOLERANCE)
        assert np.array_equal(again(x), net(x))
    make = onnx.helper.make_node
    model = model_of(
        [make("Flatten", ["x"], ["f"]), make("MatMul", ["f", "w"], ["y"])],
        {"x": ["N", 3, 5]},
        ["y"],
        {"w": np.arange(30, dtype=np.float32).reshape(15, 2) / 30},
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    theirs = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(rf.from_onnx(model)(x), theirs, atol=TOLERANCE)


CHANNELS = {
    "Clip": {"inputs": ["low", "high"]}, "MaxPool": {"kernel_shape": [3], "strides": [2], "pads": [2, 1]},
    "AveragePool": {"kernel_shape": [2]}, "BatchNormalization": {"inputs": ["a", "b", "a", "c"]}, "Softmax": {"axis": 1},
    "Conv": {"inputs": ["w"], "strides": [3], "group": 2, "pads": [2, 0]}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANNELS)
def test_an_operator_on_channels_before_steps_computes_what_onnx_runtime_does(kind):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    options = dict(CHANNELS[kind])
    random, read = np.random.default_rng(0), ["h", *options.pop("inputs", [])]
    constants = {
        "low": np.float32(-0.5), "high": np.float32(1.5), "a": random.normal(size=4), "b": random.normal(size=4),
        "c": random.uniform(1, 2, 4), "w": random.normal(size=(6, 2, 3)),
    }  # fmt: skip
    nodes = [onnx.helper.make_node("Tanh", ["x"], ["h"]), onnx.helper.make_node(kind, read, ["y"], **options)]
    known = {name: np.asarray(constants[name], np.float32) for name in read[1:]}
    model = model_of(nodes, {"x": ["N", 4, "T"]}, ["y"], known)
    x = random.normal(size=(2, 4, 9)).astype(np.float32)
    theirs = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    net = rf.from_onnx(model)
    np.testing.assert_allclose(net(x.swapaxes(1, 2)).swapaxes(1, 2), theirs, atol=TOLERANCE)
    assert "linear" not in [entry["type"] for entry in net.config["layers"]]


@pytest.mark.slow
def test_three_hundred_exported_networks_come_back_with_the_same_bits(tmp_path):
    results = [written_and_read(seed, str(tmp_path / "net.onnx")) for seed in range(100, 400)]
    assert max(difference for difference, _ in results) < TOLERANCE
    assert all(same for _, same in results)


def node_tests():
    from onnx.backend.test.case import node
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401 they register their cases

    return [case for case in node._NodeTestCases if case.model.graph.node[0].op_type in ("LSTM", "GRU", "RNN")]


def test_onnx_s_own_tests_of_recurrent_nodes_pass_in_layers_of_ours():
    cases, left = node_tests(), []
    assert len(cases) == 18
    for case in cases:
        names = [value.name for value in case.model.graph.input]
        for given, expected in case.data_sets:
            constants = {n: v for n, v in zip(names, given) if n in "WRBP"}
            net = rf.onnx.load(case.model, constants=constants, host="reference")
            left += [case.name] * len(net.left)
            outputs = several(net(*(v for n, v in zip(names, given) if n not in constants)))
            for ours, theirs in zip(outputs, expected):
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5, err_msg=case.name)
    assert left == []


@pytest.mark.parametrize("bidirectional", [False, True])
def test_peepholes_go_out_and_come_back_with_the_same_bits(tmp_path, bidirectional):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    layer = rf.LSTM(3, 5, 2, peepholes=True, bidirectional=bidirectional, seed=0)
    net, path = rf.Sequential(layer, rf.Linear(5 * (1 + bidirectional), 2, seed=1)), str(tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    net.to_onnx(path)
    np.testing.assert_allclose(runtime.InferenceSession(path).run(None, {"input": x})[0], net(x), atol=TOLERANCE)
    again = rf.from_onnx(path)
    assert again.config["layers"][0]["cell"] == "lstm_peephole"
    assert np.array_equal(again(x), net(x))


def test_peepholes_that_are_computed_or_of_another_shape_stay_with_the_host():
    case = next(case for case in node_tests() if case.name == "test_lstm_with_peepholes")
    names = [value.name for value in case.model.graph.input]
    constants = {n: v for n, v in zip(names, case.data_sets[0][0]) if n in "WRBP"}
    for other in ({}, {"P": constants["P"][:, :-1]}):
        known = {**{n: v for n, v in constants.items() if n != "P"}, **other}
        (reason,) = rf.onnx.load(case.model, constants=known, host="reference").left.values()
        assert ("(1, 8)" if other else "computes its peepholes from inputs") in reason


def model_of(nodes, inputs, outputs, constants, opset=17):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    )
    model.ir_version = 8
    return model


def weights(gates, inputs, hidden, directions=1, seed=0):
    random = np.random.default_rng(seed)
    shapes = {
        "W": (directions, gates * hidden, inputs),
        "R": (directions, gates * hidden, hidden),
        "B": (directions, 2 * gates * hidden),
    }
    return {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


NODES = {
    "LSTM": (4, {}, ()), "LSTM reverse": (4, {"direction": "reverse"}, ()), "LSTM both": (4, {"direction": "bidirectional"}, ()),
    "LSTM rows first": (4, {"layout": 0}, ("state",)), "GRU": (3, {"linear_before_reset": 1}, ("state",)),
    "GRU before": (3, {}, ("state",)), "GRU before both": (3, {"direction": "bidirectional"}, ("lengths",)),
    "GRU both": (3, {"linear_before_reset": 1, "direction": "bidirectional"}, ("lengths",)), "RNN": (1, {}, ("lengths", "state")),
    "RNN relu": (1, {"activations": ["Relu"]}, ()), "LSTM lengths": (4, {}, ("lengths", "state")),
    "LSTM coupled": (4, {"input_forget": 1}, ("state",)), "LSTM coupled both": (4, {"input_forget": 1, "direction": "bidirectional"}, ()),
    "LSTM coupled peepholes": (4, {"input_forget": 1}, ("peepholes",)), "GRU far clip": (3, {"linear_before_reset": 1, "clip": 20.0}, ()),
    "LSTM reverse lengths": (4, {"direction": "reverse"}, ("lengths",)),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_a_recurrent_node_computes_what_onnx_runtime_does(name):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    gates, options, extra = NODES[name]
    kind, directions = name.split()[0], 1 + ("both" in name)
    helper = onnx.helper
    inputs = {"X": ["T", "N", 3]}
    read = ["X", "W", "R", "B", "", "", ""]
    feed = {"X": np.random.default_rng(1).normal(size=(6, 3, 3)).astype(np.float32)}
    if "lengths" in extra:
        read[4], feed["lengths"] = "lengths", np.array([6, 2, 4], np.int32)
    if "state" in extra:
        for i, part in enumerate("hc"[: 1 + (kind == "LSTM")]):
            read[5 + i] = part
            feed[part] = np.random.default_rng(2 + i).normal(size=(directions, 3, 5)).astype(np.float32)
            inputs[part] = [directions, "N", 5]
    constants = weights(gates, 3, 5, directions)
    if "peepholes" in extra:
        read.append("P")
        constants["P"] = np.random.default_rng(4).normal(size=(directions, 15)).astype(np.float32)
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (kind == "LSTM")]
    node = helper.make_node(kind, read[: 8 if kind == "LSTM" else 6], outputs, hidden_size=5, **options)
    model = model_of([node], inputs, outputs, constants)
    if "lengths" in extra:
        model.graph.input.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["N"]))
    ours = rf.onnx.load(model)
    assert not ours.left
    theirs = runtime.InferenceSession(model.SerializeToString()).run(None, feed)
    for a, b in zip(ours.run(None, feed), theirs):
        np.testing.assert_allclose(a, b, atol=TOLERANCE)
    assert list(rf.onnx.layers(model)) == ["Y"]


REFUSED = {
    "clips the inputs of its activations at 1": ("LSTM", {"clip": 1.0}, {}),
    "clips the inputs of its activations at 0.5": ("GRU", {"linear_before_reset": 1, "clip": 0.5}, {}),
    "activations": ("GRU", {"linear_before_reset": 1, "activations": ["HardSigmoid", "Tanh"]}, {}),
    "a state that is not zero": ("LSTM", {}, {"h0": np.ones((1, 1, 5), np.float32)}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_a_cell_does_not_do_is_refused_and_never_ignored(reason):
    kind, options, constants = REFUSED[reason]
    read = ["X", "W", "R", "B", *(["", "h0"] if constants else [])]
    node = onnx.helper.make_node(kind, read, ["Y"], name="cell", hidden_size=5, **options)
    gates = {"LSTM": 4, "GRU": 3}[kind]
    model = model_of([node], {"X": ["T", 1, 3]}, ["Y"], {**weights(gates, 3, 5), **constants})
    with pytest.raises(ValueError, match=f"'cell'.*{reason}.*rf.onnx.load"):
        rf.from_onnx(model)
    if not constants:
        assert reason in rf.onnx.load(model, host="reference").left["cell"]


def test_a_far_clip_matters_where_an_activation_has_no_bound():
    node = onnx.helper.make_node("RNN", ["X", "W", "R"], ["Y"], hidden_size=5, activations=["Relu"], clip=30.0)
    model = model_of([node], {"X": ["T", 1, 3]}, ["Y"], {n: w for n, w in weights(1, 3, 5).items() if n != "B"})
    with pytest.raises(ValueError, match=r"at 30.*clip=0"):
        rf.from_onnx(model)


def test_a_graph_with_branches_half_weights_computed_shapes_and_states_becomes_a_stream(tmp_path):
    """As PyTorch and others write files: an If on the rank, float16 constants, shapes from Shape and Concat, states as inputs."""
    make, w = onnx.helper.make_node, weights(4, 3, 5)
    branch = [
        onnx.helper.make_graph([make(kind, ["x1"], ["branch"], **o)], "b", [], [onnx.helper.make_tensor_value_info("branch", 1, None)])
        for kind, o in (("Identity", {}), ("Neg", {}))
    ]  # fmt: skip
    nodes = [
        make("Cast", ["half"], ["w16"], to=1),
        make("Shape", ["x"], ["shape"]), make("Gather", ["shape", "two"], ["width"]), make("Equal", ["width", "three"], ["yes"]),
        make("Identity", ["x"], ["x1"]),
        make("If", ["yes"], ["chosen"], then_branch=branch[0], else_branch=branch[1]),
        make("LSTM", ["chosen", "W", "R", "B", "", "h", "c"], ["Y", "hn", "cn"], hidden_size=5),
        make("Shape", ["Y"], ["ys"]), make("Slice", ["ys", "zero", "one"], ["steps"]), make("Concat", ["steps", "rest"], ["target"], axis=0),
        make("Squeeze", ["Y", "one"], ["y"]), make("Reshape", ["y", "target"], ["flat"]),
        make("MatMul", ["flat", "w16"], ["m"]), make("Mul", ["m", "scale"], ["out"]),
    ]  # fmt: skip
    constants = {
        **w, "half": np.random.default_rng(5).normal(size=(5, 2)).astype(np.float16), "two": np.array([2]), "three": np.array([3]),
        "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1, 5]), "scale": np.float32(2.0),
    }  # fmt: skip
    inputs = {"x": ["T", 1, 3], "h": [1, 1, 5], "c": [1, 1, 5]}
    model = model_of(nodes, inputs, ["out", "hn", "cn"], constants)
    net = rf.from_onnx(model)
    x, z = np.random.default_rng(6).normal(size=(7, 1, 3)).astype(np.float32), np.zeros((1, 1, 5), np.float32)
    hosted = rf.onnx.load(model, host="reference")
    theirs = hosted.run(None, {"x": x, "h": z, "c": z})[0]
    np.testing.assert_allclose(net(x), theirs.reshape(7, 1, 2), atol=TOLERANCE)
    step = net.stream()
    assert np.array_equal([step(row) for row in x], net(x))
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(rf.load(tmp_path / "net.safetensors")(x), net(x))


def test_dynamically_quantized_nodes_are_read_as_int8():
    random, made = np.random.default_rng(0), weights(4, 3, 5)
    scales = {name: np.float32(np.abs(made[name]).max() / 127) for name in "WR"}
    stored = {name: np.round(made[name] / scales[name]).astype(np.int8).swapaxes(1, 2) for name in "WR"}
    constants = {
        **stored, "B": made["B"], "Ws": scales["W"].reshape(1), "Wz": np.zeros(1, np.int8), "Rs": scales["R"].reshape(1),
        "Rz": np.zeros(1, np.int8),
    }  # fmt: skip
    node = onnx.helper.make_node(
        "DynamicQuantizeLSTM",
        ["X", "W", "R", "B", "", "", "", "", "Ws", "Wz", "Rs", "Rz"],
        ["Y"],
        domain="com.microsoft",
        hidden_size=5,
    )
    model = model_of([node], {"X": ["T", "N", 3]}, ["Y"], constants)
    net = rf.from_onnx(model)
    assert net.config["weights"] == "int8"
    exact = rf.from_onnx(model, weights="f32")
    np.testing.assert_allclose(
        exact.state_dict()["0.weight_hh_l0"][:5], stored["R"].swapaxes(1, 2)[0, :5] * scales["R"], rtol=1e-6
    )
    x = random.normal(size=(6, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(net(x), exact(x), atol=0.05)  # 8 bits of weights and inputs


def test_a_language_model_s_file_continues_from_its_states(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    for options in (
        {},
        {"embedding_size": 8, "tie_weights": True, "hidden_size": 8, "cell": "gru"},
        {"embedding_size": 5, "tie_weights": True, "hidden_size": 8, "cell": "gru"},
        {"embedding_size": 4, "cell": "lstm"},
    ):
        model = rf.LanguageModel(9, **{"hidden_size": 8, "num_layers": 2, "seed": 0, **options})
        model.to_onnx(tmp_path / "lm.onnx")
        session = runtime.InferenceSession(str(tmp_path / "lm.onnx"))
        state, names = None, [value.name for value in session.get_outputs()]
        feed = {v.name: np.zeros((2, 3, 8), np.float32) for v in session.get_inputs() if v.name != "tokens"}
        for step in range(3):
            ids = np.full((1, 3), step)
            logits, state = model.step(ids[0], state)
            given = dict(zip(names, session.run(None, {**feed, "tokens": ids})))
            np.testing.assert_allclose(given["logits"][0], logits, atol=TOLERANCE)
            feed = {name: given[f"{name}_last"] for name in feed}


@pytest.mark.parametrize(
    "options", [{"residual": True, "norm": "rms"}, {"norm": "layer", "cell": "lstm"}, {"residual": True}]
)
def test_a_deep_language_model_s_file_gives_its_logits(options, tmp_path):
    model = rf.LanguageModel(
        9, **{"embedding_size": 8, "hidden_size": 8, "num_layers": 3, "cell": "gru", "seed": 0, **options}
    )
    model.to_onnx(tmp_path / "lm.onnx")
    ids = np.random.default_rng(0).integers(0, 9, (1, 3))
    logits, _ = model.step(ids[0])
    net = rf.from_onnx(tmp_path / "lm.onnx")
    np.testing.assert_allclose(net(ids)[0], logits, atol=TOLERANCE)
    assert len(net.stream().state) == 3


def test_files_that_are_not_onnx_and_cells_without_an_operator_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(ValueError, match="is not an ONNX file"):
        rf.from_onnx(tmp_path / "text.onnx")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        rf.onnx.load(tmp_path / "missing.onnx")
    model = model_of([onnx.helper.make_node("Erf", ["x"], ["y"], name="odd")], {"x": ["T", "N", 3]}, ["y"], {})
    with pytest.raises(ValueError, match="Erf node 'odd'"):
        rf.from_onnx(model)
    with pytest.raises(ValueError, match="constants names 'sr'"):
        rf.from_onnx(model, constants={"sr": 1})
    net = rf.onnx.load(model, host="reference")
    with pytest.raises(ValueError, match="input 'x' is missing"):
        net.run(None, {})
    with pytest.raises(ValueError, match="no input 'z'"):
        net.run(None, {"x": np.zeros((1, 1, 3)), "z": 1})

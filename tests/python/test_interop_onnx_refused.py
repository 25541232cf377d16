"""What an ONNX file says counts: an attribute, an input or a domain is taken as ONNX means it, or refused by name; never ignored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import rnnfast as rf

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
TOLERANCE = 1e-5  # float32 sums in another order
make = onnx.helper.make_node
random = np.random.default_rng(0)
ARRAYS = {
    "w": random.normal(size=(3, 5)), "wc": random.normal(size=(4, 3, 3)), "b": random.normal(size=(1, 3, 1)), "one": np.array(1.0),
    "W": random.normal(size=(1, 20, 3)), "R": random.normal(size=(1, 20, 5)), "B": random.normal(size=(1, 40)), "g": random.uniform(1, 2, 3),
    "m": random.normal(size=(3, 3)),
}  # fmt: skip


def model_of(nodes, inputs, constants=None, *, outputs=("y",), opset=17, domains=(), types=None):
    """A file with one graph; the arrays of ``ARRAYS`` that nodes read are stored in it."""
    helper, read = onnx.helper, {name for node in nodes for name in node.input}
    arrays = {**{n: np.asarray(a, np.float32) for n, a in ARRAYS.items() if n in read}, **(constants or {})}
    given = [helper.make_tensor_value_info(n, (types or {}).get(n, 1), shape) for n, shape in inputs.items()]
    stored = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()]
    outs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs]
    imports = [helper.make_opsetid(d, v) for d, v in (("", opset), *((d, 1) for d in domains))]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", given, outs, stored), opset_imports=imports, ir_version=8
    )


def theirs(model, **feed):
    return onnx.reference.ReferenceEvaluator(model).run(None, feed)[0]


LSTM = {"hidden_size": 5}
NTC, NCT, TNC = {"x": ["N", "T", 3]}, {"x": ["N", 3, "T"]}, {"x": ["T", "N", 3]}
REFUSED = {
    "a shift after padding": ("Add node 'y1'.*zeros are added to the steps and then shifted", [
        make("Mul", ["x", "one2"], ["a"]), make("Pad", ["a", "pads"], ["p"]), make("Add", ["p", "b"], ["y1"]), make("Conv", ["y1", "wc"], ["y"])],
        NCT, {"pads": np.array([0, 0, 1, 0, 0, 1]), "one2": np.float32(2)}),
    "negative pads of steps": ("Pad node 'p'.*pads axis 2 by -1 and 0", [
        make("Pad", ["x", "pads"], ["p"]), make("Conv", ["p", "wc"], ["y"], pads=[1, 1])], NCT, {"pads": np.array([0, 0, -1, 0, 0, 0])}),
    "negative pads of numbers": ("Pad node 'y'.*pads axis 2 by 0 and -1", [make("Pad", ["x", "pads"], ["y"])], NTC, {"pads": np.array([0, 0, 0, 0, 0, -1])}),
    "negative pads of a convolution": ("Conv node 'y'.*pads by -1 and 0", [make("Conv", ["x", "wc"], ["y"], pads=[-1, 0])], NCT),
    "lengths that are constants": ("LSTM node 'y'.*lengths 'n' are neither", [make("LSTM", ["x", "W", "R", "B", "n"], ["y"], **LSTM)], {"x": [4, 2, 3]}, {"n": np.array([4, 2], np.int32)}),
    "several lengths": ("several inputs of lengths, k, n", [
        make("LSTM", ["x", "W", "R", "B", "n"], ["a"], **LSTM), make("LSTM", ["x", "W", "R", "B", "k"], ["c"], **LSTM), make("Add", ["a", "c"], ["y"])],
        {**TNC, "n": ["N"], "k": ["N"]}),
    "lengths of one layer alone": ("LSTM node 'c'.*all steps of rows that have lengths elsewhere", [
        make("LSTM", ["x", "W", "R", "B", "n"], ["a"], **LSTM), make("LSTM", ["x", "W", "R", "B"], ["c"], **LSTM), make("Add", ["a", "c"], ["y"])],
        {**TNC, "n": ["N"]}),
    "the last step of rows with lengths": ("Slice node 'y'.*steps of rows with lengths", [
        make("LSTM", ["x", "W", "R", "B", "n"], ["a"], **LSTM), make("Slice", ["a", "s", "e"], ["y"])],
        {**TNC, "n": ["N"]}, {"s": np.array([-1]), "e": np.array([2**31 - 1])}),
    "numbers cast to integers": ("Cast node 'i'.*casts numbers to integers", [make("Cast", ["x"], ["i"], to=7), make("Cast", ["i"], ["y"], to=1)], NTC),
    "a normalization in training": ("BatchNormalization node 'y'.*eval mode", [make("BatchNormalization", ["x", "g", "g", "g", "g"], ["y", "v", "u"], training_mode=1)], NCT),
    "dropout in training": ("Dropout node 'y'.*eval mode", [make("Dropout", ["x", "one", "yes"], ["y"])], NTC, {"yes": np.array(True)}),
    "zero points of different rows": ("MatMulInteger node 'y'.*zero points", [make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), make("MatMulInteger", ["q", "wi", "za"], ["y"])],
        NTC, {"wi": np.ones((3, 5), np.int8), "za": np.array([1, 2], np.uint8)}),
    "a foreign domain": ("Relu node 'y'.*no such layer", [make("Relu", ["x"], ["y"], domain="mine")], NTC),
    "a foreign recurrent node": ("LSTM node 'y'.*no such layer", [make("LSTM", ["x", "W", "R", "B"], ["y"], domain="mine", **LSTM)], TNC),
    "a layer of ours without our domain": ("SelfAttention node 'y'.*no such layer", [make("SelfAttention", ["x"], ["y"])], TNC),
    "an axis that is none": ("Softmax node 'y'.*axis 5", [make("Softmax", ["x"], ["y"], axis=5)], NTC),
    "a division by zero": ("Div node 'y'.*not finite", [make("Div", ["x", "zero"], ["y"])], NTC, {"zero": np.float32(0)}),
    "weights that do not fit": (r"LSTM node 'y'.*weights of shapes \(1, 20, 3\)", [make("LSTM", ["x", "W", "R", "b5"], ["y"])], TNC, {"b5": np.zeros((1, 5), np.float32)}),
    "a state joined with another array": ("Concat node 'hc'.*joins an initial state", [
        make("GRU", ["x", "W3", "R3"], ["a", "last"], hidden_size=5), make("Concat", ["h", "last"], ["hc"], axis=2), make("GRU", ["x", "W3", "R3", "", "", "hc"], ["y"], hidden_size=5)],
        {**TNC, "h": [1, "N", 5]}, {"W3": np.ones((1, 15, 3), np.float32), "R3": np.ones((1, 15, 5), np.float32)}),
    "a product that would fill the memory": ("a matrix of 100,000 times", [make("Unsqueeze", ["x", "ax"], ["u"]), make("Pad", ["u", "pads"], ["p"]), make("Relu", ["p"], ["r"]), make("Mul", ["r", "v"], ["y"])],
        NTC, {"ax": np.array([3]), "pads": np.array([0, 0, 0, 0, 0, 0, 99_997, 0]), "v": np.full((1, 1), 2, np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_network_cannot_do_is_refused_by_name(name):
    reason, nodes, inputs, *constants = REFUSED[name]
    for node in nodes:
        node.name = node.name or node.output[0]
    types = dict.fromkeys(("n", "k"), onnx.TensorProto.INT32)
    model = model_of(nodes, inputs, *constants, domains=("mine",), types=types)
    with pytest.raises(ValueError, match=f"(?s){reason}.*rf.onnx.load runs the file as it is"):
        rf.from_onnx(model)


def test_old_padding_with_a_value_and_old_operators_are_refused():
    pad = make("Pad", ["x"], ["y"], pads=[0, 0, 1, 0, 0, 1], value=3.0, mode="constant")
    with pytest.raises(ValueError, match="Pad node 'y'.*value 3.0, expected 0"):
        rf.from_onnx(model_of([pad], NTC, opset=9))
    for read in (rf.from_onnx, rf.onnx.load):
        with pytest.raises(ValueError, match=r"operators of version 6, expected 7"):
            read(model_of([make("Add", ["x", "g"], ["y"], axis=2, broadcast=1)], NTC, opset=6))


TAKEN = {
    "scales around padding": ([
        make("Conv", ["x", "wc3"], ["c"]), make("Pad", ["c", "pads"], ["p"]), make("Mul", ["p", "two"], ["s"]), make("Conv", ["s", "wc"], ["y"])],
        {"wc3": ARRAYS["m"].astype(np.float32)[:, :, None], "two": np.float32(2), "pads": np.array([0, 0, 2, 0, 0, 1])}),
    "a shift before padding": ([make("Add", ["x", "b"], ["s"]), make("Conv", ["s", "wc"], ["y"], pads=[1, 1])], {}),
    "a shift before padding of its own": ([make("Add", ["x", "b"], ["s"]), make("Pad", ["s", "pads"], ["p"]), make("Conv", ["p", "wc"], ["y"], pads=[1, 0])],
        {"pads": np.array([0, 0, 0, 0, 0, 2])}),
    "steps cut off padding": ([
        make("Pad", ["x", "pads"], ["p"]), make("Slice", ["p", "zero", "end", "axis"], ["s"]), make("Conv", ["s", "wc"], ["y"])],
        {"pads": np.array([0, 0, 2, 0, 0, 2]), "zero": np.array([0]), "end": np.array([-1]), "axis": np.array([2])}),
    "a convolution, zeros and a convolution": ([
        make("Conv", ["x", "wc3"], ["c"], pads=[1, 1]), make("Pad", ["c", "pads"], ["p"]), make("Conv", ["p", "wc"], ["y"])],
        {"wc3": ARRAYS["wc"].astype(np.float32)[:3], "pads": np.array([0, 0, 1, 0, 0, 2])}),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_meets_padding_is_right_at_the_borders(name):
    nodes, constants = TAKEN[name]
    model = model_of(nodes, NCT, constants)
    x = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    ours = rf.from_onnx(model)(x.swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_allclose(ours, theirs(model, x=x), atol=TOLERANCE)


STEPS = ("scale", "shift", "conv", "pad", "norm", "matmul")


@pytest.mark.parametrize("kinds", list(itertools.product(STEPS, repeat=2)))
def test_any_order_of_scales_shifts_paddings_and_convolutions_is_taken_rightly_or_refused(kinds):
    """Padding before, between or after two other operations, in front of a convolution."""
    seed = np.random.default_rng(3)
    for at in range(3):
        chain, nodes, constants, name = [*kinds[:at], "pad", *kinds[at:], "conv"], [], {}, "x"
        for i, kind in enumerate(chain):
            out, stored = ("y" if i == len(chain) - 1 else f"v{i}"), f"c{i}"
            made = {
                "scale": ("Mul", seed.uniform(0.5, 2, (3, 1)), {}), "shift": ("Add", seed.normal(size=(3, 1)), {}),
                "conv": ("Conv", seed.normal(size=(3, 3, 3)), {"pads": [1, 0]}), "pad": ("Pad", np.array([0, 0, 1, 0, 0, 2]), {}),
                "norm": ("BatchNormalization", seed.uniform(1, 2, 3), {}), "matmul": ("Conv", seed.normal(size=(3, 3, 1)), {}),
            }  # fmt: skip
            op, value, options = made[kind]
            constants[stored] = value if kind == "pad" else value.astype(np.float32)
            nodes.append(make(op, [name, stored] * 1 + [stored] * 3 * (kind == "norm"), [out], **options))
            name = out
        model = model_of(nodes, NCT, constants)
        x = seed.normal(size=(2, 3, 7)).astype(np.float32)
        try:
            net = rf.from_onnx(model)
        except ValueError as error:
            assert "zeros" in str(error)  # noqa: PT017 refused for that reason, or right
            continue
        expected = theirs(model, x=x)
        np.testing.assert_allclose(
            net(x.swapaxes(1, 2)).swapaxes(1, 2), expected, rtol=TOLERANCE, atol=1e-4, err_msg=str(chain)
        )


def test_lengths_that_are_an_input_or_all_steps_are_taken():
    lstm = make("LSTM", ["x", "W", "R", "B", "n"], ["a", "h"], hidden_size=5)
    squeeze = make("Squeeze", ["h", "zero"], ["y"])
    model = model_of([lstm, squeeze], {**TNC, "n": ["N"]}, {"zero": np.array([0])}, types={"n": onnx.TensorProto.INT32})
    x, n = np.random.default_rng(2).normal(size=(6, 3, 3)).astype(np.float32), np.array([6, 2, 4], np.int32)
    hosted = rf.onnx.load(model, host="reference")
    np.testing.assert_allclose(rf.from_onnx(model)(x, lengths=n), hosted(x, n), atol=TOLERANCE)
    shape = [make("Shape", ["x"], ["s"], start=0, end=1), make("Shape", ["x"], ["r"], start=1, end=2)]
    computed = [*shape, make("Expand", ["s", "r"], ["e"]), make("Cast", ["e"], ["n"], to=6)]
    model = model_of([*computed, lstm, squeeze], TNC, {"zero": np.array([0])})
    plain = rf.from_onnx(model)(x)
    assert np.array_equal(
        plain,
        rf.from_onnx(
            model_of([lstm, squeeze], {"x": [6, 3, 3]}, {"zero": np.array([0]), "n": np.full(3, 6, np.int32)})
        )(x),
    )


def test_zero_points_of_both_sides_and_scales_along_an_axis_are_taken():
    seed = np.random.default_rng(5)
    constants = {
        "wi": seed.integers(-9, 9, (3, 5)).astype(np.int8),
        "za": np.array(2, np.uint8),
        "zb": seed.integers(-3, 3, 5).astype(np.int8),
    }
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        make("MatMulInteger", ["q", "wi", "za", "zb"], ["i"]),
        make("Cast", ["i"], ["y"], to=1),
    ]
    x = seed.normal(size=(2, 4, 3)).astype(np.float32)
    expected = (x - 2.0) @ (constants["wi"].astype(np.float64) - constants["zb"])
    np.testing.assert_allclose(rf.from_onnx(model_of(nodes, NTC, constants))(x), expected, rtol=1e-5, atol=1e-4)


def test_a_scale_is_a_layer_of_its_own_and_goes_out_and_comes_back():
    net = rf.from_onnx(
        model_of([make("Relu", ["x"], ["r"]), make("Mul", ["r", "half"], ["y"])], NTC, {"half": np.float32(0.5)})
    )
    assert [entry["type"] for entry in net.config["layers"]] == ["activation", "scale"]
    ours, x = (
        rf.Sequential(rf.Linear(3, 4, seed=0), rf.Scale(0.3), rf.Linear(4, 2, seed=1)),
        np.ones((5, 2, 3), np.float32),
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ours.to_onnx(f"{folder}/net.onnx")
        again = rf.from_onnx(f"{folder}/net.onnx")
        np.testing.assert_allclose(theirs(onnx.load(f"{folder}/net.onnx"), input=x), ours(x), atol=TOLERANCE)
    assert again.config["layers"][1]["factor"] == 0.3
    assert np.array_equal(again(x), ours(x))


GROWING = {
    "Expand": ([make("Expand", ["one", "big"], ["y1"])], {"big": np.array([60_000, 60_000])}),
    "ConstantOfShape": ([make("ConstantOfShape", ["big"], ["y1"])], {"big": np.array([2**20, 2**20])}),
    "Tile": ([make("Tile", ["g", "big"], ["y1"])], {"big": np.array([10**9])}),
    "Range": ([make("Range", ["zero", "big", "step"], ["y1"])], {"zero": np.array(0), "big": np.array(10**12), "step": np.array(1)}),
    "MatMul": ([make("MatMul", ["big", "wide"], ["y1"])], {"big": np.ones((40_000, 1), np.float32), "wide": np.ones((1, 40_000), np.float32)}),
    "Pad": ([make("Pad", ["g", "big"], ["y1"])], {"big": np.array([0, 10**11])}),
    "OneHot": ([make("OneHot", ["i", "big", "of"], ["y1"])], {"i": np.array([1]), "big": np.array(10**11), "of": np.array([0.0, 1.0], np.float32)}),
    "Add": ([make("Add", ["big", "wide"], ["y1"])], {"big": np.ones((40_000, 1), np.float32), "wide": np.ones((1, 40_000), np.float32)}),
    "Gather": ([make("Gather", ["wide", "places"], ["y1"])], {"wide": np.ones((1, 40_000), np.float32), "places": np.zeros(40_000, np.int64)}),
    "Concat": ([make("Concat", ["g"] * 64, ["c0"], axis=0), *(make("Concat", [f"c{i}"] * 64, [f"c{i + 1}" if i < 5 else "y1"], axis=0) for i in range(6))], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_a_small_file_cannot_fill_the_memory_with_constants(name):
    nodes, constants = GROWING[name]
    model = model_of([*nodes, make("Relu", ["x"], ["y"])], NTC, constants)
    for read in (rf.from_onnx, rf.onnx.load, rf.onnx.layers):
        with pytest.raises(ValueError, match=rf"{name} node .* would need [\d,]+ MB.*made to fill the memory"):
            read(model)


def test_graphs_whose_nodes_are_out_of_order_or_read_nothing_are_refused():
    for nodes, reason in (
        ([make("Relu", ["z"], ["y"]), make("Identity", ["y"], ["z"])], "reads 'z', which no input"),
        ([make("Relu", ["x"], ["y"]), make("Relu", ["x"], ["y"])], "gives 'y', which is given already"),
        ([make("Relu", ["x"], ["z"])], "the output 'y' is given by no node"),
    ):
        for read in (rf.from_onnx, rf.onnx.load):
            with pytest.raises(ValueError, match=reason):
                read(model_of(nodes, NTC))
    chain = [make("Identity", ["x" if i == 0 else f"v{i}"], [f"v{i + 1}" if i < 2999 else "y"]) for i in range(3000)]
    with pytest.raises(ValueError, match="no layer"):
        rf.from_onnx(model_of(chain, TNC))


def test_the_host_refuses_inputs_and_nodes_in_one_sentence():
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    assert runtime
    net = rf.onnx.load(model_of([make("MatMul", ["x", "w"], ["y"])], NTC), host="onnxruntime")
    with pytest.raises(ValueError, match=r"onnxruntime cannot run on x \(1, 2, 4\)"):
        net(np.zeros((1, 2, 4)))
    with pytest.raises(ValueError, match=r"onnxruntime does not take the nodes .*\(Odd\)"):
        rf.onnx.load(model_of([make("Odd", ["x"], ["y"])], NTC), host="onnxruntime")
    ids = rf.onnx.load(
        model_of([make("Gather", ["w", "x"], ["y"])], {"x": ["N", "T"]}, types={"x": 7}), host="reference"
    )
    with pytest.raises(TypeError, match="input 'x' has the type float64, expected integers"):
        ids(np.full((1, 2), 1.5))

"""Losses of rf.losses: values and gradients against float64 differences and PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import losses
from rnnfast.nn.ctc import edit_distance
from rnnfast.nn.losses import LOSSES, loss_named

random = np.random.default_rng(0)
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0], np.float32)
CLASSES = {
    "plain": losses.CrossEntropyLoss(), "smooth": losses.CrossEntropyLoss(label_smoothing=0.2),
    "weighted": losses.CrossEntropyLoss(class_weights=WEIGHTS),
    "both": losses.CrossEntropyLoss(class_weights=WEIGHTS, label_smoothing=0.1, ignore_index=3),
}  # fmt: skip
NUMBERS = {
    "mse": losses.MSELoss(), "mae": losses.L1Loss(), "huber": losses.HuberLoss(delta=0.7),
    "binary": losses.BCEWithLogitsLoss(), "rare": losses.BCEWithLogitsLoss(pos_weight=[3.0, 0.5, 1.0, 2.0]),
}  # fmt: skip


def outputs(steps=5, rows=3, width=4, scale=2.0):
    return (scale * random.normal(size=(steps, rows, width))).astype(np.float32)


def slope(loss, y, target, **options):
    """Central differences along random directions in float64: the loss is computed in float32, which keeps four digits."""
    value, dy = loss.forward(y, target, **options)
    assert value == pytest.approx(loss(y, target, **options), rel=1e-12)
    direction = random.normal(size=y.shape)
    step = 1e-2
    up, down = (loss((y + sign * step * direction).astype(np.float32), target, **options) for sign in (1, -1))
    return (up - down) / (2 * step), float((dy.astype(np.float64) * direction).sum())


@pytest.mark.parametrize("name", CLASSES)
def test_cross_entropy_is_pytorch_s(name):
    torch = pytest.importorskip("torch")
    loss, y, target = CLASSES[name], outputs(), random.integers(0, 4, (5, 3))
    theirs = torch.nn.CrossEntropyLoss(
        weight=None if loss.class_weights is None else torch.tensor(loss.class_weights, dtype=torch.float64),
        label_smoothing=loss.label_smoothing, ignore_index=-100 if loss.ignore_index is None else loss.ignore_index,
    )  # fmt: skip
    given = torch.tensor(y.reshape(-1, 4), dtype=torch.float64, requires_grad=True)
    expected = theirs(given, torch.tensor(target.ravel()))
    expected.backward()
    value, dy = loss.forward(y, target)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(dy.reshape(-1, 4), given.grad.numpy(), atol=1e-7)


@pytest.mark.parametrize("name", NUMBERS)
def test_losses_of_numbers_are_pytorch_s(name):
    torch = pytest.importorskip("torch")
    loss, y, target = NUMBERS[name], outputs(), random.random((5, 3, 4)).astype(np.float32)
    theirs = {
        "mse": lambda: torch.nn.MSELoss(), "mae": lambda: torch.nn.L1Loss(), "huber": lambda: torch.nn.HuberLoss(delta=0.7),
        "binary": lambda: torch.nn.BCEWithLogitsLoss(),
        "rare": lambda: torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(loss.pos_weight, dtype=torch.float64)),
    }[name]()  # fmt: skip
    given = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    expected = theirs(given, torch.tensor(target, dtype=torch.float64))
    expected.backward()
    value, dy = loss.forward(y, target)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(dy, given.grad.numpy(), atol=1e-7)


@pytest.mark.parametrize("name", [*CLASSES, *NUMBERS, "quantile"])
def test_gradients_are_the_slopes_and_masked_predictions_do_not_count(name):
    y, lengths = outputs(width=4), [5, 2, 0]
    loss = {**CLASSES, **NUMBERS, "quantile": losses.QuantileLoss([0.2, 0.9])}[name]
    target = random.integers(0, 4, (5, 3)) if name in CLASSES else random.random((5, 3, 4 if name in NUMBERS else 2))
    weights = random.integers(0, 3, (5, 3)).astype(np.float32)
    measured, given = slope(loss, y, target, weights=weights, lengths=lengths)
    # Half the step times the curvature, and corners of the absolute values within the step.
    assert measured == pytest.approx(given, rel=2e-2, abs=2e-2)
    value, dy = loss.forward(y, target, weights=weights, lengths=lengths)
    beyond = np.arange(5)[:, None] >= np.array(lengths)
    changed, other = np.where(beyond[..., None], np.float32(np.nan), y), target.copy()
    other[beyond] = 99 if name in CLASSES else np.nan
    again, same = loss.forward(changed, other, weights=weights, lengths=lengths)
    assert again == value
    assert np.array_equal(same, dy)
    assert not dy[beyond].any()


def test_negative_ids_do_not_count_and_nothing_is_a_loss_of_zero():
    loss, y = losses.CrossEntropyLoss(), outputs()
    target = random.integers(0, 4, (5, 3))
    masked = np.where(np.arange(5)[:, None] < 2, target, -1)
    assert loss(y, masked) == pytest.approx(loss(y[:2], target[:2]), rel=1e-12)
    value, dy = loss.forward(y, np.full((5, 3), -100))
    assert value == 0
    assert not dy.any()


def test_the_quantile_loss_is_least_at_the_quantile():
    target = random.normal(size=(2000, 1)).astype(np.float32)
    loss = losses.QuantileLoss([0.8])
    at = np.linspace(-2, 2, 81)
    best = at[np.argmin([loss(np.full((2000, 1), guess), target) for guess in at])]
    assert best == pytest.approx(np.quantile(target, 0.8), abs=0.06)  # the grid's step, and its flat bottom


@pytest.mark.parametrize(
    ("kind", "option"), [("CrossEntropyLoss", "class_weights"), ("BCEWithLogitsLoss", "pos_weight")]
)
def test_a_loss_keeps_its_own_copy_of_weights(kind, option):
    weights = np.array([1, 2, 3, 4], np.float32)
    loss = getattr(losses, kind)(**{option: weights})
    told = repr(loss)
    weights[:] = 0
    assert repr(loss) == told


# CTC


def spelled(path, blank):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


@pytest.mark.parametrize("labels", [[1], [1, 1], [2, 1], [1, 2, 1], []])
def test_ctc_is_the_sum_over_all_alignments(labels):
    y = outputs(steps=5, rows=1, width=3).astype(np.float64)
    p = np.exp(y[:, 0]) / np.exp(y[:, 0]).sum(1, keepdims=True)
    paths = itertools.product(range(3), repeat=5)
    total = sum(np.prod(p[np.arange(5), path]) for path in paths if spelled(path, 0) == tuple(labels))
    assert losses.CTCLoss()(y, [labels]) == pytest.approx(-np.log(total) / max(1, len(labels)), rel=1e-6)


@pytest.mark.parametrize(
    ("steps", "rows", "classes", "most", "blank"), [(12, 4, 5, 4, 0), (40, 6, 9, 12, 8), (3, 2, 4, 0, 1)]
)
def test_ctc_and_its_gradient_are_pytorch_s(steps, rows, classes, most, blank):
    torch = pytest.importorskip("torch")
    y = outputs(steps, rows, classes, 3.0)
    count = random.integers(0, most + 1, rows)
    lengths = np.minimum(np.maximum(random.integers(1, steps + 1, rows), 2 * count), steps)
    labels = [random.choice([k for k in range(classes) if k != blank], n) for n in count]
    given = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        given.log_softmax(-1), torch.tensor(np.concatenate(labels), dtype=torch.long), torch.tensor(lengths), torch.tensor(count),
        blank=blank,
    )  # fmt: skip
    expected.backward()
    value, dy = losses.CTCLoss(blank=blank).forward(y, labels, lengths=lengths)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(dy, given.grad.numpy(), atol=1e-7)
    padded = np.full((rows, max(most, 1)), -1)
    for row, own in zip(padded, labels):
        row[: len(own)] = own
    assert losses.CTCLoss(blank=blank)(y, padded, lengths=lengths) == value


def test_rows_that_cannot_be_spelled_count_as_pytorch_s_zero_infinity():
    torch = pytest.importorskip("torch")
    y, labels = outputs(steps=4, rows=3, width=3), [[1], [2, 2, 1], [2, 1]]
    given = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        given.log_softmax(-1), torch.tensor([label for row in labels for label in row]), torch.tensor([3, 3, 4]), torch.tensor([1, 3, 2]), reduction="mean",
        zero_infinity=True,
    )  # fmt: skip
    expected.backward()
    value, dy = losses.CTCLoss(zero_infinity=True).forward(y, labels, lengths=[3, 3, 4])
    assert value == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(dy, given.grad.numpy(), atol=1e-7)
    alone = losses.CTCLoss(zero_infinity=True).forward(y[:2, 1:2], [[1, 2, 1]])  # nothing but such a row
    assert alone[0] == 0
    assert not alone[1].any()


def test_ctc_names_a_row_that_cannot_be_spelled_and_gives_it_no_loss_if_asked():
    y = outputs(steps=3, rows=2, width=3)
    with pytest.raises(ValueError, match="row 1 has 3 steps, but its 2 labels need 3|row 1 has 2 steps"):
        losses.CTCLoss()(y, [[1], [2, 2]], lengths=[3, 2])
    value, dy = losses.CTCLoss(zero_infinity=True).forward(y, [[1], [2, 2]], lengths=[3, 2])
    assert value == losses.CTCLoss()(y[:, :1], [[1]]) / 2
    assert not dy[:, 1].any()
    with pytest.raises(IndexError, match="other than the blank"):
        losses.CTCLoss()(y, [[0], [1]])


def test_extreme_logits_leave_ctc_finite():
    """A network that is sure of blanks: the labels' probabilities, e^-400 at each step, are no double any more."""
    y = np.zeros((8, 1, 3), np.float32)
    y[..., 0] = 400
    value, dy = losses.CTCLoss().forward(y, [[1, 2, 1, 2]])
    assert value == pytest.approx(400, rel=0.05)
    assert np.isfinite(dy).all()
    assert dy.any()


def test_the_most_probable_alignment_is_decoded():
    path = [[1, 1, 0, 1, 2], [0, 0, 2, 2, 1]]
    y = np.eye(3)[np.array(path).T]
    assert [row.tolist() for row in losses.ctc_decode(y)] == [[1, 1, 2], [2, 1]]
    assert [row.tolist() for row in losses.ctc_decode(y, [2, 3])] == [[1], [2]]
    assert [edit_distance(a, b) for a, b in (("", "ab"), ("kitten", "sitting"), ("ab", "ab"))] == [2, 3, 0]


# Mistakes


def test_mistakes_are_named():
    y = outputs()
    for call, error, match in (
        (
            lambda: losses.CrossEntropyLoss()(y, np.zeros((3, 5), int)),
            ValueError,
            r"target has shape \(3, 5\), expected \(5, 3\)",
        ),
        (lambda: losses.CrossEntropyLoss()(y, np.zeros((5, 3))), TypeError, "integers"),
        (lambda: losses.CrossEntropyLoss()(y, np.full((5, 3), 4)), IndexError, "4, expected ids below 4"),
        (
            lambda: losses.CrossEntropyLoss(class_weights=[1, 2])(y, np.zeros((5, 3), int)),
            ValueError,
            "expected 4: one per class",
        ),
        (lambda: losses.CrossEntropyLoss(label_smoothing=1.0), ValueError, "less than 1"),
        (lambda: losses.MSELoss()(y, np.zeros((5, 3))), ValueError, "that of the output"),
        (lambda: losses.MSELoss()(y, y, lengths=[6, 1, 1]), ValueError, "0 to 5"),
        (lambda: losses.MSELoss()(y, y, weights=[1, 1, 1]), ValueError, "one for each prediction"),
        (lambda: losses.QuantileLoss([0.1, 0.5, 0.9])(y, y), ValueError, "multiple of 3"),
        (lambda: losses.QuantileLoss([1.0]), ValueError, "between 0 and 1"),
        (lambda: losses.HuberLoss(delta=0), ValueError, "more than 0"),
        (lambda: loss_named("rmse"), ValueError, "expected one of cross_entropy, mse"),
        (lambda: loss_named(losses.MSELoss), TypeError, r"write MSELoss\(\)"),
    ):
        with pytest.raises(error, match=match):
            call()


def test_losses_have_the_same_bits_on_any_number_of_threads(threads):
    for name, kind in LOSSES.items():
        y = outputs(width=3)
        target = (
            random.integers(0, 3, (5, 3))
            if name == "cross_entropy"
            else [[1], [2], []]
            if name == "ctc"
            else y[..., :1]
            if name == "quantile"
            else y
        )
        found = []
        for count in (1, 2):
            threads(count)
            found.append(kind().forward(y, target))
        assert found[0][0] == found[1][0]
        assert np.array_equal(found[0][1], found[1][1])
    assert rf.losses is losses

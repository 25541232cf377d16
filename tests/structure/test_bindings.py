"""Bindings turn NumPy arrays into pointers and back. They import no Python, and release the GIL before they compute."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BINDINGS = sorted((ROOT / "cpp" / "bindings").glob("*.*"))
# Calls that may take long: members of the layers and models, and free functions.
MEMBERS = "forward|backward|step|loss|encode|run|translate|sample|next"
FUNCTIONS = (
    "translate|score_pairs|int8_row|bf16_row|write_safetensors|safetensors_bytes|SafetensorsFile::open|"
    "SafetensorsFile::view|grad_squares|scale_grads|clip_grad_value"
)
COMPUTES = re.compile(rf"(?:\.|->)(?:{MEMBERS})\(|(?<![\w.>:])(?:{FUNCTIONS})\(|&(?P<owner>\w+)::(?:{MEMBERS})\b")
RELEASES = re.compile(r"gil_scoped_release|without_gil\(")
# File and first words of what computes with the GIL, and why.
HELD: dict[str, str] = {
    "register_language_model.cpp int32_t sample": "one row of logits takes microseconds",
    "register_network.cpp py::list step": "getting the GIL back may take longer than a small step; it releases it for a large one",
    "register_stream.cpp py::object step": "getting the GIL back may take longer than a small step; it releases it for a large one",
}


def code(file: Path) -> str:
    """A file's text with comments blanked out."""
    return re.sub(r"//[^\n]*", "", file.read_text())


def closing(text: str, opening: int) -> int:
    """Behind the bracket that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    raise AssertionError("brackets do not close")


def units(text: str):
    """The functions of a binding file, and each definition that a `register_` function or an `add_` function makes."""
    for head in re.finditer(
        r"^(?:    )?(?!    )([\w:<>,&* ]+ [\w:]+)\([^;{}]*\)(?: const)?(?: : [^{;]*)? \{$", text, re.MULTILINE
    ):
        body = text[head.start() : closing(text, head.end() - 1)]
        if re.search(r"\b(register_|add_)\w+$", head[1]):
            for definition in re.finditer(r"\bdef\w*\(", body):
                yield body[definition.end() : closing(body, definition.end() - 1)]
        else:
            yield body


def computing_with_the_gil(text: str):
    for unit in units(text):
        found = COMPUTES.search(unit)
        if not found or f"class {found['owner']} {{" in text:  # a member of a class of this file is a unit itself
            continue
        released = RELEASES.search(unit[: found.start()]) or re.search(
            r"call_guard<\w+::gil_scoped_release>|\bfree\b", unit
        )
        if not released:
            yield " ".join(re.match(r"\s*([^(,]+)", unit)[1].split())


def test_no_binding_imports_python():
    for file in BINDINGS:
        assert not re.search(r"module_?::import|PyImport", code(file)), file


def test_bindings_release_the_gil_before_they_compute():
    held = {f"{file.name} {name}" for file in BINDINGS for name in computing_with_the_gil(code(file))}
    assert not held - set(HELD)
    assert not set(HELD) - held, "exceptions that are none any more"


def test_a_binding_that_holds_the_gil_is_seen():
    text = """
int good(Layer& l) {
    const py::gil_scoped_release release;
    return l.forward(1);
}

int late(Layer& l) {
    const int y = l.forward(1);
    const py::gil_scoped_release release;
    return y;
}

void register_layers(py::module_& m) {
    m.def("lambda", [](Layer& l) { return l.backward(2); }, py::arg("x"));
    m.def("guarded", [](Layer& l) { return l.backward(2); }, py::call_guard<py::gil_scoped_release>());
    m.def("member", &Layer::step);
}
"""
    assert list(computing_with_the_gil(text)) == ["int late", '"lambda"', '"member"']

"""Draws the diagrams of docs/learn as SVG files: one function each. ``python docs/diagrams.py`` writes docs/pictures.

Each is drawn twice: with English words, and with the Chinese ones of diagram_labels.py into a folder ``zh``. A test compares the files
with what this draws.
"""

from __future__ import annotations

import math
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from diagram_labels import CHINESE

BLUE, ORANGE, GREY, INK = "#2a6fbb", "#d9822b", "#9aa5b1", "#1f2933"
PALE = {BLUE: "#e6f0fa", ORANGE: "#fdf0e1", GREY: "#f1f4f7"}
FOLDER = Path(__file__).parent / "pictures" / "learn"
DIAGRAMS = {}


def diagram(function):
    DIAGRAMS[function.__name__.replace("_", "-")] = function
    return function


class Drawing:
    """Boxes, words and arrows on white, in SVG units."""

    def __init__(self, width, height, title):
        self.width, self.height, self.title = width, height, title
        self.parts = []  # texts, or functions from the words of a language to one

    def labels(self):
        """The words of the drawing."""
        found = [self.title]
        for part in self.parts:
            if callable(part):
                part(lambda text: found.append(text) or text)
        return found

    def add(self, text):
        self.parts.append(text)

    def box(self, x, y, words, color=GREY, w=54, h=34, round=6):
        """A box around (x, y)."""
        self.add(
            f'<rect x="{x - w / 2:g}" y="{y - h / 2:g}" width="{w:g}" height="{h:g}" rx="{round}" fill="{PALE[color]}" '
            f'stroke="{color}" stroke-width="1.5"/>'
        )
        self.words(x, y + 5, words)

    def disc(self, x, y, words, color=GREY, r=17):
        self.add(f'<circle cx="{x:g}" cy="{y:g}" r="{r}" fill="{PALE[color]}" stroke="{color}" stroke-width="1.5"/>')
        self.words(x, y + 5, words)

    def words(self, x, y, text, color=INK, size=14, anchor="middle", bold=False, plain=False):
        """``a_b`` writes b as a subscript, unless ``plain``."""
        weight = ' font-weight="bold"' if bold else ""

        def drawn(word):
            shown = word(text)
            spans = escape(shown) if plain else _with_subscripts(shown, size)
            return f'<text x="{x:g}" y="{y:g}" fill="{color}" font-size="{size}" text-anchor="{anchor}"{weight}>{spans}</text>'

        self.add(drawn)

    def line(self, *points, color=INK, width=1.5, dash="", arrow=True, opacity=1.0):
        path = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
        self._path(path, color, width, dash, arrow, opacity)

    def arc(self, a, b, bend, color=INK, width=1.5, dash="", arrow=True, opacity=1.0):
        """A curve from a to b that rises by ``bend`` in the middle."""
        middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 - 2 * bend)
        self._path(
            f"M{a[0]:g},{a[1]:g} Q{middle[0]:g},{middle[1]:g} {b[0]:g},{b[1]:g}", color, width, dash, arrow, opacity
        )

    def _path(self, path, color, width, dash, arrow, opacity):
        head = f' marker-end="url(#head{color[1:]})"' if arrow else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        seen = "" if opacity == 1 else f' opacity="{opacity:g}"'
        self.add(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashes}{head}{seen}/>')

    def loop(self, x, y, color=BLUE):
        """From the right side of a box around (x, y) back to its left side, over its top."""
        self._path(
            f"M{x + 27:g},{y - 6:g} C{x + 62:g},{y - 50:g} {x - 62:g},{y - 50:g} {x - 28:g},{y - 6:g}",
            color,
            1.5,
            "",
            True,
            1,
        )

    def svg(self, words=None):
        """The file, in English or with ``words`` by their English ones."""

        def word(text):
            return (words or {}).get(text, text)

        heads = "".join(
            f'<marker id="head{c[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0,0.5 L8,4 L0,7.5 z" fill="{c}"/></marker>'
            for c in (BLUE, ORANGE, GREY, INK)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" font-family="Helvetica, Arial, \'Noto Sans CJK SC\', sans-serif">\n'
            f"<title>{escape(word(self.title))}</title>\n<defs>{heads}</defs>\n"
            f'<rect width="{self.width}" height="{self.height}" rx="8" fill="white"/>\n'
            + "\n".join(part(word) if callable(part) else part for part in self.parts)
            + "\n</svg>\n"
        )


def _with_subscripts(text, size):
    spans = []
    for i, piece in enumerate(text.split("_")):
        if i == 0:
            spans.append(escape(piece))
        else:
            cut = next((j for j, c in enumerate(piece) if c in " ,)="), len(piece))
            spans.append(f'<tspan dy="4" font-size="{size * 0.75:g}">{escape(piece[:cut])}</tspan>')
            if piece[cut:]:
                spans.append(f'<tspan dy="-4">{escape(piece[cut:])}</tspan>')
    return "".join(spans)


def tokens(d, x, y, letters, *, w=30, gap=34, colors=None):
    for i, letter in enumerate(letters):
        d.box(x + i * gap, y, letter, colors[i] if colors else GREY, w=w, h=28, round=4)


@diagram
def hidden_variables():
    d = Drawing(660, 220, "A window of the last values, and a hidden state that is updated with every value")
    for x0, title in ((20, "a window of τ = 2 values"), (350, "a hidden state h_t")):
        d.words(x0 + 145, 26, title, bold=True)
        for t in range(4):
            d.disc(x0 + 30 + 76 * t, 180, f"x_{t + 1}")
    for t in (2, 3):
        for back in (1, 2):
            d.arc((20 + 30 + 76 * (t - back), 162), (20 + 30 + 76 * t - 6, 161), 20 + 22 * back, BLUE)
    for t in range(4):
        x = 350 + 30 + 76 * t
        d.box(x, 105, f"h_{t + 1}", BLUE, w=44)
        d.line((x, 162), (x, 124))
        if t < 3:
            d.line((x + 22, 105), (x + 53, 105), color=BLUE)
            d.line((x + 14, 123), (x + 61, 166), color=ORANGE, dash="4 3")
    d.words(350 + 145, 62, "predicts x_t+1 from h_t", ORANGE, 13)
    return d


@diagram
def chain_rule():
    d = Drawing(660, 210, "The chain rule conditions on everything before; Markov models forget")
    rows = (
        ("chain rule: P(x_4 | x_1, x_2, x_3)", 3, BLUE),
        ("trigram: P(x_4 | x_2, x_3)", 2, ORANGE),
        ("bigram: P(x_4 | x_3)", 1, ORANGE),
    )
    for row, (title, order, color) in enumerate(rows):
        y = 45 + 62 * row
        d.words(20, y + 5, title, anchor="start", size=15)
        for t in range(4):
            used = 3 - order <= t
            d.disc(340 + 86 * t, y, f"x_{t + 1}", color if used else GREY)
            if used and t < 3:
                d.arc(
                    (352 + 86 * t, y - 14),
                    (340 + 86 * 3 - 12, y - 14 if t < 2 else y - 8),
                    10 * (3 - t) if t < 2 else 3,
                    color,
                )
    return d


@diagram
def text_to_numbers():
    d = Drawing(660, 250, "A text becomes tokens, tokens become ids, ids become rows of a matrix")
    steps = ((40, "text"), (95, "tokens"), (150, "ids"), (212, "one-hot rows"))
    for y, title in steps:
        d.words(20, y + 5, title, anchor="start", bold=True)
    d.box(390, 40, "Time  Traveller!", BLUE, w=300)
    letters, ids = [*"time␣trav"], [3, 5, 13, 2, 1, 3, 10, 4, 21]
    for i, (letter, number) in enumerate(zip(letters, ids)):
        x = 190 + 50 * i
        d.line((x, 58), (x, 79), color=GREY)
        d.box(x, 95, letter, GREY, w=34, h=28)
        d.line((x, 110), (x, 134), color=GREY)
        d.box(x, 150, str(number), ORANGE, w=34, h=28)
        d.line((x, 165), (x, 186), color=GREY)
        for k in range(4):
            on = k == number % 4
            d.add(
                f'<rect x="{x - 16 + 8 * k}" y="192" width="8" height="40" fill="{BLUE if on else "white"}" stroke="{GREY}"/>'
            )
    return d


@diagram
def iterators():
    d = Drawing(700, 330, "Targets are the inputs shifted by one; sequential and random minibatches of two rows")
    text = list("the time")
    d.words(20, 30, "targets y are the inputs x, one token later", anchor="start", bold=True)
    tokens(d, 60, 62, ["␣" if c == " " else c for c in text[:7]], colors=[BLUE] * 7)
    tokens(d, 60, 100, ["␣" if c == " " else c for c in text[1:8]], colors=[ORANGE] * 7)
    d.words(24, 67, "x")
    d.words(24, 105, "y")
    for i in range(1, 7):
        d.line((60 + 34 * i - 4, 77), (60 + 34 * (i - 1) + 8, 85), color=GREY, width=1)
    for y, title, order in ((150, "sequential: row n continues in the next batch, and so does its state", (1, 2, 3, 1, 2, 3)),
                            (245, "random: chunks in any order, each from the initial state", (3, 1, 2, 2, 3, 1))):  # fmt: skip
        d.words(20, y, title, anchor="start", bold=True)
        for i, batch in enumerate(order):
            color = (BLUE, ORANGE, GREY)[batch - 1]
            d.box(80 + 104 * i, y + 38, f"batch {batch}", color, w=98, h=34, round=4)
        if y == 150:
            for i in (0, 1, 3, 4):
                d.arc((80 + 104 * i, y + 20), (80 + 104 * (i + 1), y + 20), 7, INK)
            d.line((80 + 104 * 2.5, y + 14), (80 + 104 * 2.5, y + 62), dash="3 3", arrow=False)
            d.words(80 + 104, y + 72, "row 1", size=12)
            d.words(80 + 104 * 4, y + 72, "row 2", size=12)
    return d


@diagram
def unrolled():
    d = Drawing(680, 290, "A recurrent network, folded and unrolled over three steps with the same weights")
    d.words(90, 28, "folded", bold=True)
    d.words(440, 28, "unrolled", bold=True)

    def column(x, at):
        d.disc(x, 250, f"X_{at}" if at else "X")
        d.box(x, 150, f"H_{at}" if at else "H", BLUE)
        d.disc(x, 62, f"O_{at}" if at else "O", ORANGE)
        d.line((x, 232), (x, 169))
        d.line((x, 132), (x, 81))
        d.words(x + 8, 206, "W_xh", size=12, anchor="start")
        d.words(x + 8, 101, "W_hq", size=12, anchor="start")

    column(90, "")
    d.loop(90, 150)
    d.words(38, 122, "W_hh", size=12)
    d.line((165, 150), (215, 150), color=GREY, width=3)
    for i, at in enumerate(("t-1", "t", "t+1")):
        x = 310 + 130 * i
        column(x, at)
        d.line((x - 103 if i == 0 else x - 101, 150), (x - 29, 150), color=BLUE)
        d.words(x - 62, 142, "W_hh" if i else "", size=12)
    d.line((310 + 260 + 28, 150), (310 + 260 + 80, 150), color=BLUE)
    d.words(240, 140, "H_t-2", size=13)
    return d


@diagram
def perplexity():
    d = Drawing(660, 210, "Perplexity of three distributions over eight tokens")
    kinds = (
        ("certain and right: 1", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("half on the truth: 2", [0.5, 0.24, 0.1, 0.06, 0.04, 0.03, 0.02, 0.01]),
        ("a guess: 8", [0.125] * 8),
    )
    for k, (title, p) in enumerate(kinds):
        x0 = 25 + 215 * k
        d.words(x0 + 92, 28, title, bold=True)
        for i, value in enumerate(p):
            height = 125 * value
            d.add(
                f'<rect x="{x0 + 23 * i}" y="{175 - height:g}" width="18" height="{max(height, 1):g}" '
                f'fill="{BLUE if i == 0 else GREY}"/>'
            )
        d.line((x0 - 5, 175), (x0 + 185, 175), arrow=False)
        d.words(x0 + 9, 194, "true", BLUE, 12)
    return d


@diagram
def clipping():
    d = Drawing(660, 260, "A step of gradient descent from the wall of a cliff, with and without clipping")

    def height(x):
        return 200 - 110 / (1 + math.exp(-(x - 4.2) * 7)) - 4 * (x - 2.2) ** 2

    points = [(60 + 90 * x, height(x)) for x in (i / 40 for i in range(0, 250))]
    d._path("M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points), INK, 2, "", False, 1)
    start = (60 + 90 * 4.25, height(4.25))
    d.add(f'<circle cx="{start[0]:g}" cy="{start[1]:.1f}" r="6" fill="{BLUE}"/>')
    d.words(start[0] + 14, start[1] + 6, "w", anchor="start")
    d.line((start[0] - 6, start[1]), (70, 22), color=ORANGE, width=2, dash="6 4")
    d.words(205, 96, "without clipping: η g", ORANGE, 14, "end")
    clipped = (start[0] - 70, height(4.25) + 32)
    d.line((start[0] - 6, start[1] + 3), clipped, color=BLUE, width=2.5)
    d.words(clipped[0] - 6, clipped[1] + 6, "with: at most η θ", BLUE, 14, "end")
    d.words(330, 248, "weight", GREY, 13)
    d.words(20, 128, "loss", GREY, 13, "start")
    return d


@diagram
def gates():
    d = Drawing(700, 320, "The gates of a GRU and of an LSTM")
    d.words(170, 26, "GRU", bold=True)
    d.words(525, 26, "LSTM", bold=True)
    # GRU: H_{t-1} along the top, reset into the candidate, update as a switch
    d.words(24, 85, "H_t-1", anchor="start", size=13)
    d.line((64, 80), (255, 80), color=BLUE, width=2)
    d.disc(272, 80, "1-z:z", ORANGE, r=20)
    d.line((292, 80), (325, 80), color=BLUE, width=2)
    d.words(322, 70, "H_t", size=13)
    d.box(100, 190, "R", ORANGE, w=40)
    d.box(180, 190, "Z", ORANGE, w=40)
    d.box(265, 190, "H̃", BLUE, w=44)
    d.line((100, 80), (100, 171))
    d.line((180, 80), (180, 171))
    d.line((120, 182), (165, 140), (220, 140), (246, 174), color=ORANGE)
    d.words(196, 132, "R ⊙", ORANGE, 13)
    d.line((196, 173), (258, 98), color=ORANGE)
    d.line((268, 171), (272, 103), color=BLUE)
    for x in (100, 180, 265):
        d.line((x, 275), (x, 209))
    d.line((100, 275), (265, 275), arrow=False)
    d.words(182, 298, "X_t")
    # LSTM: C along the top
    d.words(372, 85, "C_t-1", anchor="start", size=13)
    d.line((412, 80), (438, 80), color=BLUE, width=2)
    d.disc(452, 80, "⊙", ORANGE, r=13)
    d.line((466, 80), (522, 80), color=BLUE, width=2)
    d.disc(536, 80, "+", BLUE, r=13)
    d.line((550, 80), (680, 80), color=BLUE, width=2)
    d.words(668, 70, "C_t", size=13)
    for x, letter, color in ((452, "F", ORANGE), (512, "I", ORANGE), (572, "C̃", BLUE), (632, "O", ORANGE)):
        d.box(x, 205, letter, color, w=42)
        d.line((x, 275), (x, 224))
    d.line((452, 186), (452, 96), color=ORANGE)
    d.disc(536, 140, "⊙", ORANGE, r=13)
    d.line((516, 187), (529, 154), color=ORANGE)
    d.line((566, 187), (545, 153), color=BLUE)
    d.line((536, 125), (536, 96), color=BLUE)
    d.disc(632, 130, "⊙", ORANGE, r=13)
    d.line((632, 186), (632, 146), color=ORANGE)
    d.line((632, 80), (632, 115), color=BLUE)
    d.words(646, 103, "tanh", size=12, anchor="start")
    d.line((646, 130), (682, 130), color=BLUE, width=2)
    d.words(680, 120, "H_t", size=13)
    d.line((452, 275), (632, 275), arrow=False)
    d.words(542, 298, "X_t , H_t-1")
    return d


@diagram
def decoders():
    d = Drawing(
        720,
        575,
        "Three decoders, folded and unrolled: context as the initial state, as input, and with the previous token",
    )
    kinds = (
        ("context_as_state", "s_t = g(s_t-1), s_0 = c", False, False),
        ("context_as_input", "s_t = g(c, s_t-1)", True, False),
        ("context_and_previous", "s_t = g(y_t-1, c, s_t-1)", True, True),
    )
    for k, (name, formula, reads_context, reads_previous) in enumerate(kinds):
        y = 100 + 190 * k
        d.words(20, y - 68, name, anchor="start", bold=True, plain=True)
        d.words(240, y - 68, formula, anchor="start", size=14)
        # folded
        d.box(110, y, "s", BLUE)
        d.loop(110, y)
        d.disc(190, y, "y", ORANGE)
        d.line((138, y), (171, y))
        if reads_context:
            d.box(110, y + 66, "c", ORANGE, w=34, h=28)
            d.line((110, y + 51), (110, y + 19), color=ORANGE)
        else:
            d.box(36, y, "c", ORANGE, w=34, h=28)
            d.line((54, y), (81, y), color=ORANGE)
        if reads_previous:
            d.line((190, y + 18), (190, y + 36), (132, y + 36), (126, y + 19), dash="4 3")
        # unrolled
        left = 345
        if reads_context:
            d.box(left + 165, y + 78, "c", ORANGE, w=34, h=28)
            d.words(left - 22, y + 5, "s_0")
            d.line((left - 6, y), (left + 28, y), color=BLUE)
        else:
            d.box(left - 22, y, "c", ORANGE, w=34, h=28)
            d.line((left - 4, y), (left + 28, y), color=ORANGE)
        for t in range(3):
            x = left + 58 + 110 * t
            d.box(x, y, f"s_{t + 1}", BLUE)
            d.disc(x, y - 52, f"y_{t + 1}", ORANGE, r=15)
            d.line((x, y - 18), (x, y - 36))
            if t < 2:
                d.line((x + 28, y), (x + 81, y), color=BLUE)
            if reads_context:
                d.line((left + 165, y + 63), (x, y + 19), color=ORANGE)
            if reads_previous:
                if t:
                    d.line((x - 94, y - 50), (x - 55, y - 50), (x - 20, y - 19), dash="4 3")
                else:
                    d.words(x - 62, y - 40, "<bos>", size=12)
                    d.line((x - 42, y - 38), (x - 20, y - 19), dash="4 3")
    return d


@diagram
def attention():
    d = Drawing(660, 270, "Each step of the decoder weighs all states of the encoder")
    weights = (0.1, 0.15, 0.6, 0.15)
    for j, a in enumerate(weights):
        x = 60 + 100 * j
        d.box(x, 200, f"m_{j + 1}", BLUE)
        d.disc(x, 250 - 2, f"x_{j + 1}", r=15)
        d.line((x, 232), (x, 219))
        if j:
            d.line((x - 72, 200), (x - 29, 200), color=BLUE)
        d.line((x, 182), (250, 100), color=ORANGE, width=1 + 6 * a, arrow=False)
        d.words(x + (30 if j < 2 else -22 if j == 3 else 20), 164, f"{a:g}", ORANGE, 13)
    d.disc(250, 84, "c_t", ORANGE)
    d.words(206, 60, "c_t = Σ a_tj m_j", ORANGE, 14, "end")
    d.box(470, 84, "s_t-1", BLUE)
    d.box(590, 84, "s_t", BLUE)
    d.line((498, 84), (561, 84), color=BLUE)
    d.arc((268, 74), (575, 64), 16, ORANGE)
    d.line((470, 103), (470, 140), (420, 152), (395, 176), dash="4 3")
    d.words(486, 152, "query s_t-1, keys m_j", anchor="start", size=12)
    d.disc(590, 24, "y_t", r=15)
    d.line((590, 66), (590, 41))
    return d


@diagram
def beam():
    d = Drawing(660, 250, "Beam search of width two keeps the two best prefixes of every length")
    d.box(60, 125, "<bos>", GREY, w=64)
    levels = (
        [(40, "il", -0.4, True, None), (125, "je", -1.6, True, None), (210, "va", -2.3, False, None)],
        [
            (30, "il est", -0.9, True, 0),
            (95, "il a", -1.9, True, 0),
            (155, "je suis", -2.0, False, 1),
            (215, "je perds", -3.1, False, 1),
        ],
        [(40, "il est calme", -1.2, True, 0), (110, "il a perdu", -2.1, True, 1), (180, "il est ici", -2.6, False, 0)],
    )
    before = [(60, 125, True)]
    for level, items in enumerate(levels):
        x = 190 + 170 * level
        now = []
        for y, text, score, kept, parent in items:
            px, py, _ = before[parent or 0]
            color = BLUE if kept else GREY
            d.line((px + (34 if level == 0 else 58), py), (x - 62, y), color=color)
            d.box(x, y, text, color, w=112)
            d.words(x, y + 32, f"log P = {score:g}", color, 11)
            now.append((x, y, kept))
        before = now
    return d


@diagram
def paths():
    d = Drawing(700, 250, "The path from the first to the last token: many layers, many steps, or one step")
    for k, title in enumerate(("convolution: n/k layers", "recurrence: n steps", "attention: 1 step")):
        x0 = 20 + 232 * k
        d.words(x0 + 95, 26, title, bold=True)
        rows = 4 if k == 0 else 2
        for row in range(rows):
            y = 215 - (150 / (rows - 1)) * row
            for i in range(6):
                d.add(
                    f'<circle cx="{x0 + 10 + 34 * i}" cy="{y:g}" r="7" fill="{PALE[BLUE] if row else PALE[GREY]}" stroke="{BLUE if row else GREY}"/>'
                )
    for row in range(3):  # convolution with kernel 3, causal
        for i in range(6):
            for back in range(3):
                if i - back >= 0:
                    hot = (i - back == 2 * row and i == min(2 * row + 2, 5)) or (row == 2 and i == 5 and back == 1)
                    d.line((30 + 34 * (i - back), 215 - 50 * row - 8), (30 + 34 * i, 215 - 50 * row - 42),
                           color=ORANGE if hot else GREY, width=2.5 if hot else 0.7, arrow=False)  # fmt: skip
    for i in range(6):
        x = 262 + 34 * i
        d.line((x, 207), (x, 73), color=ORANGE if i == 0 else GREY, width=2.5 if i == 0 else 0.9, arrow=False)
        if i:
            d.line((x - 27, 65), (x - 8, 65), color=ORANGE, width=2.5)
        for j in range(i + 1):
            hot = i == 5 and j == 0
            d.line(
                (494 + 34 * j, 207),
                (494 + 34 * i, 73),
                color=ORANGE if hot else GREY,
                width=2.5 if hot else 0.6,
                arrow=False,
            )
    return d


SPEED = (  # a row of docs/performance.md, and its words
    ("forward LSTM 35x32x256x256", "LSTM, forward, 32 rows"),
    ("forward GRU 35x32x256x256", "GRU, forward, 32 rows"),
    ("forward RNN 35x32x256x256", "RNN, forward, 32 rows"),
    ("train LSTM 35x32x256x256", "LSTM, training, 32 rows"),
    ("train GRU 35x32x256x256", "GRU, training, 32 rows"),
    ("forward GRU 35x1x256x256", "GRU, forward, one row"),
    ("train GRU 35x1x256x256", "GRU, training, one row"),
    ("stream LSTM 1x1x256x256", "LSTM, step by step"),
)


def speed():
    """How many times faster than PyTorch, on one thread, from the tables of docs/performance.md."""
    tables = (FOLDER.parents[1] / "performance.md").read_text(encoding="utf-8")
    d = Drawing(700, 60 + 28 * len(SPEED), "Speed on one thread compared with PyTorch")
    d.words(20, 28, "Times as fast as PyTorch 2.13, one thread, 256 units", anchor="start", bold=True)
    head = ""
    ratios = {}
    for line in tables.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "case":
            head = cells
        elif "×PyTorch" in head and cells[:2] in [[name, "1"] for name, _ in SPEED] and cells[0] not in ratios:
            ratios[cells[0]] = float(cells[head.index("×PyTorch")])
    for i, (name, words) in enumerate(SPEED):
        y, width = 56 + 28 * i, 380 * math.log2(ratios[name]) / math.log2(12)
        d.words(190, y + 5, words, anchor="end", size=13)
        d.add(f'<rect x="200" y="{y - 9}" width="{width:.1f}" height="18" rx="3" fill="{BLUE}"/>')
        d.words(208 + width, y + 5, f"{ratios[name]:.1f}×", anchor="start", size=13)
    d.line((200, 40), (200, 56 + 28 * len(SPEED) - 16), arrow=False)
    return d


def drawings():
    """Every drawing by its file in docs/pictures."""
    return {**{f"learn/{name}.svg": draw() for name, draw in DIAGRAMS.items()}, "speed.svg": speed()}


def main(folder=FOLDER.parent):
    for name, drawing in drawings().items():
        file = Path(folder) / name
        for path, words in ((file, None), (file.parent / "zh" / file.name, CHINESE)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(drawing.svg(words), encoding="utf-8")


if __name__ == "__main__":
    main()

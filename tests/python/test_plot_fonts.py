"""Pictures with characters that the installed fonts lack."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("matplotlib")

from rnnfast import plot  # noqa: E402


def missing_font(monkeypatch):
    """As on a computer without fonts for Chinese, in a fresh process."""
    monkeypatch.setattr(plot, "_fallback_fonts", tuple)
    monkeypatch.setattr(plot, "_warned_of_boxes", [])


def titled(title):
    figure, axes = plot.new_figure()
    axes.set_title(title)
    return figure


def test_characters_that_no_font_has_are_named_once_with_a_font_to_install(monkeypatch, tmp_path):
    missing_font(monkeypatch)
    with pytest.warns(UserWarning) as caught:
        plot.finish(titled("注意力 weights"), tmp_path / "a.png")
        plot.finish(titled("困惑度"), tmp_path / "b.png")
        titled("词表")._repr_png_()
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith("no installed font has the characters 注意力; the picture shows boxes.")
    assert "apt-get install fonts-noto-cjk" in message
    assert "fontlist-*.json" in message
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_other_scripts_get_other_fonts_and_other_warnings_pass(monkeypatch, tmp_path):
    missing_font(monkeypatch)
    figure = titled("ก")
    saving = figure.savefig

    def savefig(*args, **options):
        warnings.warn("something else", UserWarning, stacklevel=1)
        saving(*args, **options)

    monkeypatch.setattr(figure, "savefig", savefig)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot.finish(figure, tmp_path / "a.png")
    assert [str(w.message)[:42] for w in caught] == ["something else", "no installed font has the characters ก; th"]
    assert "fonts-noto-core" in str(caught[1].message)


def test_a_picture_without_such_characters_does_not_warn(monkeypatch, tmp_path):
    missing_font(monkeypatch)
    plot.finish(titled("perplexity é"), tmp_path / "a.png")

"""The commands classify, tag and forecast."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.cli import main

random = np.random.default_rng(0)


@pytest.fixture
def table(tmp_path):
    """Monthly sales with a promotion; the last four rows have the promotions to come."""
    time = np.arange(120)
    promotion = random.integers(0, 2, 124)
    sales = 20 + 3 * np.sin(time * np.pi / 6) + 4 * promotion[:120]
    rows = ["month,sales,promotion"]
    for n in range(124):
        rows.append(f"{2010 + n // 12}-{n % 12 + 1:02},{f'{sales[n]:.3f}' if n < 120 else ''},{promotion[n]}")
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_a_forecast_continues_the_dates_and_a_saved_model_gives_it_again(table, tmp_path, capsys):
    model, options = tmp_path / "m.safetensors", ["--exogenous", "promotion"]
    assert (
        main(
            [
                "forecast",
                str(table),
                "--season",
                "12",
                "--horizon",
                "6",
                "--epochs",
                "2",
                "--output",
                str(model),
                *options,
            ]
        )
        == 0
    )
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["step"] for row in rows] == ["2020-01", "2020-02", "2020-03", "2020-04"]
    assert all(float(row["lower"]) <= float(row["median"]) <= float(row["upper"]) for row in rows)
    assert "apply it with: rnnfast forecast FILE --model" in printed.err
    assert main(["forecast", str(table), "--model", str(model), *options]) == 0
    again = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    np.testing.assert_allclose(
        [float(row["median"]) for row in again], [float(row["median"]) for row in rows], rtol=1e-4
    )
    assert isinstance(rf.load(model), rf.Forecaster)


def test_the_printed_interval_is_that_of_the_fit(table, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    options = ["--columns", "sales", "--season", "12", "--epochs", "2", "--output", str(model)]
    assert main(["forecast", str(table), *options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["forecast"]
    expected = rf.load(model).predict_interval()
    for name, values in expected._asdict().items():
        np.testing.assert_array_equal([row[name] for row in printed], values[:, 0])


def test_a_finished_model_refuses_options_of_training_and_other_columns(table, tmp_path, capsys):
    model, options = tmp_path / "m.safetensors", ["--columns", "sales", "--season", "12", "--epochs", "1"]
    assert main(["forecast", str(table), *options, "--output", str(model)]) == 0
    assert (
        main(["forecast", str(table), "--columns", "sales", "--model", str(model), "--season", "6", "--lr", "1"]) == 2
    )
    assert "is trained already, and --season belongs to training; leave out --season, --lr" in capsys.readouterr().err
    assert main(["forecast", str(table), "--columns", "promotion", "--model", str(model)]) == 2
    assert "has the columns promotion; expected as fitted: sales" in capsys.readouterr().err


def test_a_finished_model_draws_the_series_that_it_forecasts(table, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    plot = rf.Forecaster.plot
    monkeypatch.setattr(rf.Forecaster, "plot", lambda self, *args, **named: drawn.append(plot(self, *args, **named)))
    model, options = tmp_path / "m.safetensors", ["--exogenous", "promotion", "--plot", str(tmp_path / "p.png")]
    assert (
        main(
            [
                "forecast",
                str(table),
                "--season",
                "12",
                "--horizon",
                "4",
                "--epochs",
                "1",
                "--output",
                str(model),
                *options,
            ]
        )
        == 0
    )
    other = tmp_path / "other.csv"
    rows = table.read_text().splitlines()
    other.write_text("\n".join([rows[0], *rows[20:]]).replace(",2", ",9") + "\n")
    capsys.readouterr()
    assert main(["forecast", str(other), "--model", str(model), "--force", *options]) == 0
    medians = [float(row["median"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    last = [float(row.split(",")[1]) for row in other.read_text().splitlines()[1:] if row.split(",")[1]][-1]
    lines = {line.get_label(): line for line in drawn[1].axes[0].lines}
    past, median = lines["series"], lines["median"]
    assert past.get_ydata()[-1] == last
    np.testing.assert_allclose(median.get_ydata()[1:], medians, rtol=1e-5)


def test_blank_lines_have_no_label(tmp_path, capsys):
    train, model = tmp_path / "t.txt", tmp_path / "m.safetensors"
    train.write_text("a\tone\nb\ttwo\n" * 8)
    assert main(["classify", str(train), "--output", str(model), "--epochs", "1"]) == 0
    (tmp_path / "x.txt").write_text("one\n  \n\ntwo\n")
    capsys.readouterr()
    assert main(["classify", str(tmp_path / "x.txt"), "--model", str(model)]) == 0
    assert [bool(line) for line in capsys.readouterr().out.splitlines()] == [True, False, False, True]


def test_a_forecast_of_one_column_as_json_with_a_backtest_and_a_picture(table, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = [
        "--columns",
        "sales",
        "--season",
        "12",
        "--epochs",
        "2",
        "--backtest",
        "--json",
        "--plot",
        str(tmp_path / "fan.png"),
    ]
    assert main(["forecast", str(table), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["forecast"]) == 12
    assert found["backtest"]["mae"] < found["backtest"]["naive_mae"]
    assert (tmp_path / "fan.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", [], "has 2 rows"),
        ("1,2\n3,4\n5,6\n", [], "begins with numbers"),
        ("t,x\n2020-01,1\n2020-02,none\n2020-03,2\n", [], "row 3: x is 'none', expected a number"),
        ("t,x\n2020-01,1\n2020-02\n2020-03,2\n", [], "row 3: 1 cells, expected 2"),
        ("t,x\n2020-01,1\n2020-02,2\n2020-03,2\n", ["--columns", "y"], "no column 'y'; it has t, x"),
        ("t,x\n2020-01,1\n2020-02,2\n2020-03,2\n", [], "3 values, expected at least"),
    ],
)
def test_a_table_that_cannot_be_forecast_is_one_line(tmp_path, capsys, content, options, message):
    file = tmp_path / "t.csv"
    file.write_text(content)
    assert main(["forecast", str(file), *options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_lines_are_classified(tmp_path, capsys):
    file, model = tmp_path / "lines.tsv", tmp_path / "m.safetensors"
    lines = [
        (label, "".join(random.choice(list(letters), 6)))
        for label, letters in (("low", "abc"), ("high", "xyz"))
        for _ in range(40)
    ]
    file.write_text("".join(f"{label}\t{text}\n" for label, text in lines))
    train = ["classify", str(file), "--output", str(model), "--epochs", "15", "--lr", "0.02", "--hidden-size", "8"]
    assert main([*train, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["labels"] == ["high", "low"]
    assert result["accuracy"] > 0.9
    assert result["lines"] == 72
    assert main(train) == 2
    assert "--force" in capsys.readouterr().err
    (tmp_path / "new.txt").write_text("abba\n\nzyzz\n")
    assert main(["classify", str(tmp_path / "new.txt"), "--model", str(model)]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.split("\n")]
    assert [row[0] for row in printed] == ["low", "", "high", ""]
    assert printed[0][2] == "abba"
    assert main(["classify", str(file)]) == 2
    assert "give --output MODEL to train a model" in capsys.readouterr().err
    (tmp_path / "bad.tsv").write_text("no tab here\n")
    assert main(["classify", str(tmp_path / "bad.tsv"), "--output", str(tmp_path / "n.safetensors")]) == 2
    assert "bad.tsv, line 1: 'no tab here' is not a label, a tab and a text" in capsys.readouterr().err
    assert main(["tag", str(file), "--model", str(model)]) == 2
    assert "holds a classifier of sequences; expected a tagger" in capsys.readouterr().err


def test_tokens_are_tagged(tmp_path, capsys):
    file, model = tmp_path / "tags.tsv", tmp_path / "m.safetensors"
    words = {"the": "D", "a": "D", "cat": "N", "dog": "N", "sat": "V", "ran": "V"}
    text = [[random.choice([w for w, t in words.items() if t == tag]) for tag in "DNV"] for _ in range(40)]
    file.write_text("\n".join("".join(f"{word}\t{words[word]}\n" for word in one) for one in text))
    train = ["tag", str(file), "--output", str(model), "--epochs", "15", "--lr", "0.03", "--hidden-size", "8"]
    assert main(train) == 0
    assert "trained on 36 sentences with 3 labels; accuracy 1.0000 on 4 other sentences" in capsys.readouterr().out
    (tmp_path / "new.txt").write_text("the\ncat\nran\n\na\ndog\n")
    assert main(["tag", str(tmp_path / "new.txt"), "--model", str(model)]) == 0
    assert capsys.readouterr().out == "the\tD\ncat\tN\nran\tV\n\na\tD\ndog\tN\n\n"
    assert main(["tag", str(tmp_path / "new.txt"), "--model", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n")[0]) == {
        "tokens": ["the", "cat", "ran"],
        "labels": ["D", "N", "V"],
    }
    assert main(["tag", str(tmp_path / "new.txt"), "--output", str(tmp_path / "n.safetensors")]) == 2
    assert "line 1: 'the' is not a token, a tab and a label" in capsys.readouterr().err

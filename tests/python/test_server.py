"""The serving example: streams that are stepped together, limits, deadlines, and how it stops and reloads."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

for needed in ("uvicorn", "starlette", "prometheus_client"):
    pytest.importorskip(needed, reason=f"no {needed}: pip install -r examples/server/requirements.txt")
LONG = 5000  # tokens: a text that takes seconds
EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from server import load  # noqa: E402
from server.app import Service  # noqa: E402
from server.limits import Limits, Refused  # noqa: E402
from server.sampling import Sampler  # noqa: E402
from server.scheduler import Job  # noqa: E402


def running_server(*options):
    """A server with time: machines that run tests may stop for a while."""
    return load.Running(*options, "--deadline", 300)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of one vocabulary."""
    vocab = rf.Corpus.from_text("the time traveller smiled round at us. ").vocab
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("first", 1), ("second", 2)):
        model = rf.LanguageModel(
            vocab, cell="lstm", embedding_size=8, hidden_size=24, num_layers=2, seed=seed, init_scale=0.5
        )
        model.save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def path(models, tmp_path):
    return shutil.copy(models / "first.safetensors", tmp_path / "model.safetensors")


@pytest.fixture(scope="module")
def server(models):
    with running_server(models / "first.safetensors", "--batch", 4, "--body", 5000, "--length", 1000) as running:
        yield running


@pytest.fixture(scope="module")
def endless(models):
    """A server that generates texts of any length."""
    with running_server(models / "first.safetensors", "--length", 10**6) as running:
        yield running


@pytest.fixture(scope="module")
def model(models):
    return rf.load(models / "first.safetensors")


def ask(running, method, where, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request(method, where, json.dumps(body) if isinstance(body, dict) else body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(running, where, body=None, status=200):
    found, _, data = ask(running, "POST", where, body)
    assert found == status, data
    return json.loads(data)


def opened(running, saved=None):
    return "/v1/streams/" + post(running, "/v1/streams", saved, 201)["stream"]


def metric(running, name):
    lines = ask(running, "GET", "/metrics")[2].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and "_created" not in line)


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def logits_alone(model, tokens):
    """After each token."""
    state, found = None, []
    for token in tokens:
        logits, state = model.step([token], state)
        found.append(logits[0])
    return found


def text_alone(model, text, length, seed, temperature=1.0, top_k=0):
    sampler, state, tokens = Sampler(temperature, top_k, seed), None, []
    for token in model.vocab.encode_text(text):
        logits, state = model.step([token], state)
    for _ in range(length):
        tokens.append(sampler.sample(logits[0]))
        logits, state = model.step(tokens[-1:], state)
    return model.vocab.decode(tokens)


def test_streams_that_join_and_leave_at_any_step_have_the_bits_of_single_steps(server, model):
    def follow(seed):
        rng = random.Random(seed)
        tokens = [rng.randrange(len(model.vocab)) for _ in range(40)]
        expected, stream, at = logits_alone(model, tokens), opened(server), 0
        while at < len(tokens):
            size = rng.randint(1, 7)
            answer = post(server, f"{stream}/step", {"tokens": tokens[at : at + size], "logits": True, "top": 3})
            at += answer["read"]
            assert np.array_equal(np.array(answer["logits"], np.float32), expected[at - 1])
            assert answer["top"][0]["token"] == int(expected[at - 1].argmax())
            time.sleep(rng.random() / 200)
        assert ask(server, "DELETE", stream)[0] == 204

    steps, streams = metric(server, "rnnfast_step_seconds_count"), metric(server, "rnnfast_batch_streams_sum")
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(follow, range(12)))
    assert metric(server, "rnnfast_batch_streams_sum") - streams == 12 * 40
    assert metric(server, "rnnfast_step_seconds_count") - steps < 12 * 40  # some were stepped together
    assert metric(server, "rnnfast_streams_open") == 0


def test_a_text_does_not_depend_on_the_texts_that_are_generated_with_it(server, model):
    requests = [
        {"text": "the ti", "length": 20 + 7 * seed, "seed": seed, "temperature": 0.8, "top_k": seed % 3 * 4} for seed in range(12)
    ]  # fmt: skip
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: post(server, "/v1/generate", body), requests))
    for body, answer in zip(requests, answers):
        assert (answer["tokens"], answer["reason"]) == (body["length"], "done")
        assert answer["text"] == text_alone(model, **body)


def test_tokens_arrive_one_by_one(server, model):
    status, _, data = ask(server, "POST", "/v1/generate", {"text": "the ti", "length": 9, "seed": 3, "stream": True})
    lines = [json.loads(line) for line in data.splitlines()]
    assert status == 200
    assert len(lines) == 10
    assert "".join(line["text"] for line in lines) == text_alone(model, "the ti", 9, 3)
    assert (lines[-1]["tokens"], lines[-1]["reason"]) == (9, "done")


def test_a_stream_continues_its_text_and_its_state_goes_to_another_one(server, model):
    whole = text_alone(model, "the ti", 12, 0, temperature=0)
    stream = opened(server)
    text = post(server, f"{stream}/generate", {"text": "the ti", "length": 5, "temperature": 0})["text"]
    saved = ask(server, "GET", f"{stream}/state")[2]
    for each in (stream, opened(server, saved)):
        assert text + post(server, f"{each}/generate", {"length": 7, "temperature": 0})["text"] == whole
        assert ask(server, "DELETE", each)[0] == 204
        assert ask(server, "DELETE", each)[0] == 404
    for damaged in (saved[:-4], b"x" + saved[1:], saved[:-4] + np.float32(np.nan).tobytes()):
        status, _, data = ask(server, "POST", "/v1/streams", damaged)
        assert status == 409
        assert b"the state" in data


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[]", 400, "not a JSON object"),
        (b"[" * 4000, 400, "the body is not JSON"),
        ({"text": ""}, 400, "give a text"),
        ({"text": 3}, 400, "text is not a string"),
        ({"text": "\ud800"}, 400, "surrogate"),
        ({"tokens": [1, 10**6]}, 400, "ids from 0 to"),
        ({"tokens": [True]}, 400, "ids from 0 to"),
        ({"text": "a", "length": 1001}, 400, "length is 1001, expected a number from 1 to 1000"),
        ({"text": "a", "length": 2.5}, 400, "expected an integer"),
        ({"text": "a", "temperature": -1}, 400, "temperature is -1"),
        ({"text": "a", "deadline": 1e9}, 400, "deadline is"),
        ({"text": "a", "stream": 1}, 400, "expected true or false"),
        ({"text": "a" * 1001}, 413, "1001 tokens to read, at most 1000"),
        (b" " * 5001, 413, "the body has more than 5000 bytes"),
        ({"text": "a", "deadline": 0}, 504, "the deadline came after 0"),
    ],
)
def test_requests_that_are_refused_say_why_and_leave_no_stream(server, body, status, sentence):
    answer = post(server, "/v1/generate", body, status)
    assert sentence in answer["error"]
    assert metric(server, "rnnfast_streams_open") == 0


def test_a_text_ends_at_its_deadline(endless, model):
    answer = post(endless, "/v1/generate", {"text": "the", "length": 10**6, "deadline": 1, "temperature": 0})
    assert answer["reason"] == "deadline"
    assert 0 < answer["tokens"] < 10**6
    assert answer["text"] == text_alone(model, "the", answer["tokens"], 0, temperature=0)
    assert metric(endless, "rnnfast_deadlines_missed_total") == 1


def test_the_work_of_a_client_that_has_gone_ends(endless):
    connection = http.client.HTTPConnection("127.0.0.1", endless.port)
    connection.request("POST", "/v1/generate", json.dumps({"text": "a", "length": 10**6, "stream": True}))
    connection.getresponse().read(100)
    assert metric(endless, "rnnfast_jobs") == 1
    connection.sock.close()
    connection.close()
    wait_until(lambda: metric(endless, "rnnfast_jobs") == 0 and metric(endless, "rnnfast_streams_open") == 0)


def test_what_is_too_much_is_refused_with_a_time_to_come_again(models):
    with running_server(
        models / "first.safetensors", "--queue", 2, "--streams", 4, "--batch", 1, "--length", LONG
    ) as running:
        with ThreadPoolExecutor(4) as pool:
            answers = list(
                pool.map(lambda _: ask(running, "POST", "/v1/generate", {"text": "a", "length": LONG}), range(4))
            )
        assert {status for status, _, _ in answers} == {200, 429}
        assert all(headers["Retry-After"] == "1" for status, headers, _ in answers if status == 429)
        for _ in range(4):
            opened(running)
        status, headers, _ = ask(running, "POST", "/v1/streams")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert ask(running, "GET", "/healthz")[0] == 200


def test_idle_streams_are_saved_and_return(path, model, tmp_path):
    expected = logits_alone(model, [1, 2, 3])
    with running_server(path, "--idle", 0.3, "--state-dir", tmp_path / "states") as running:
        stream = opened(running)
        post(running, f"{stream}/step", {"tokens": [1, 2]})
        wait_until(lambda: metric(running, "rnnfast_streams_idle_total") == 1)
        assert metric(running, "rnnfast_streams_open") == 0
        answer = post(running, f"{stream}/step", {"tokens": [3], "logits": True})
        assert np.array_equal(np.array(answer["logits"], np.float32), expected[2])
        assert ask(running, "GET", "/v1/streams/..%2F..%2Fmodel/state")[0] == 404


def test_sigterm_loses_nothing(path, model, tmp_path):
    options = (path, "--length", LONG, "--state-dir", tmp_path / "states")
    with running_server(*options, "--linger", 2) as running:
        stream = opened(running)
        post(running, f"{stream}/step", {"tokens": [1, 2]})
        with ThreadPoolExecutor(12) as pool:
            body = {"text": "the", "length": LONG, "temperature": 0}
            texts = [pool.submit(post, running, "/v1/generate", body) for _ in range(12)]
            wait_until(lambda: metric(running, "rnnfast_jobs") == 12)
            running.process.send_signal(signal.SIGTERM)
            wait_until(lambda: ask(running, "GET", "/readyz")[0] == 503)
            late = post(running, "/v1/generate", {"text": "the", "length": 5, "temperature": 0})
            expected = text_alone(model, "the", LONG, 0, temperature=0)
            assert late["text"] == expected[:5]
            assert [text.result()["text"] for text in texts] == [expected] * 12
        assert running.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            ask(running, "GET", "/healthz")
    with running_server(*options) as running:
        answer = post(running, f"{stream}/step", {"tokens": [3], "logits": True})
        assert np.array_equal(np.array(answer["logits"], np.float32), logits_alone(model, [1, 2, 3])[2])


def test_a_new_model_leaves_open_streams_with_theirs(path, models, model):
    other = rf.load(models / "second.safetensors")
    greedy = {"text": "the", "length": LONG, "temperature": 0}
    with running_server(path, "--batch", 3, "--length", LONG) as running, ThreadPoolExecutor(2) as pool:
        stream, before = opened(running), json.loads(ask(running, "GET", "/v1/model")[2])["model"]
        post(running, f"{stream}/step", {"tokens": [1]})
        long = [pool.submit(post, running, "/v1/generate", greedy) for _ in range(2)]
        wait_until(lambda: metric(running, "rnnfast_jobs") == 2)
        shutil.copy(models / "second.safetensors", path)
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: json.loads(ask(running, "GET", "/v1/model")[2])["model"] != before)
        new = opened(running)
        for each, its in ((stream, model), (new, other)):
            tokens = [2] if each == stream else [1, 2]
            answer = post(running, f"{each}/step", {"tokens": tokens, "logits": True})
            assert np.array_equal(np.array(answer["logits"], np.float32), logits_alone(its, [1, 2])[1])
        assert [text.result()["text"] for text in long] == [text_alone(model, **greedy, seed=0)] * 2
        Path(path).write_bytes(b"damaged")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: metric(running, 'rnnfast_reloads_total{result="failed"}') == 1)
        post(running, f"{new}/step", {"tokens": [3]})


def test_the_metrics_are_prometheus_text(server):
    from prometheus_client.parser import text_string_to_metric_families

    post(server, "/v1/generate", {"text": "a", "length": 3})
    families = {
        family.name: family for family in text_string_to_metric_families(ask(server, "GET", "/metrics")[2].decode())
    }
    assert families["rnnfast_step_seconds"].type == "histogram"
    assert families["rnnfast_tokens"].type == "counter"
    requests = [s.labels for s in families["rnnfast_requests"].samples if s.name.endswith("_total")]
    assert {"route": "/v1/generate", "status": "200"} in requests


async def in_service(path, limits, use):
    service = Service(str(path), limits)
    async with service._life(None):
        return await use(service)


def job(service, stream, tokens, deadline=60.0):
    made = Job(time.monotonic() + deadline, stream, deque(tokens))
    service.scheduler.submit(made)
    return made


def test_the_earliest_deadline_goes_first_and_a_full_queue_refuses(path):
    async def use(service):
        streams = [service.streams.open(service.replica) for _ in range(5)]
        ends = []

        async def end_of(number, made):
            await made.ended.wait()
            ends.append(number)

        jobs = [job(service, stream, [1] * 5, 60.0 - i) for i, stream in enumerate(streams[:4])]
        with pytest.raises(Refused, match="4 requests are waiting"):
            job(service, streams[4], [1])
        await asyncio.gather(*(end_of(i, made) for i, made in enumerate(jobs)))
        return ends

    assert asyncio.run(in_service(path, Limits(batch=1, queue=4), use)) == [3, 2, 1, 0]


def test_ten_thousand_streams_keep_their_states(path, model, threads):
    threads(1)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, len(model.vocab), size=(10_000, 3))

    async def use(service):
        streams = [service.streams.open(service.replica) for _ in tokens]
        with pytest.raises(Refused, match="10000 streams are open"):
            service.streams.open(service.replica)
        for own in (tokens[:, :2], tokens[:, 2:]):
            jobs = [job(service, stream, row) for stream, row in zip(streams, own.tolist())]
            for made in jobs:
                await made.ended.wait()
        return [made.logits for made in jobs]

    found = asyncio.run(in_service(path, Limits(batch=64, queue=10_000), use))
    for i in rng.integers(0, len(tokens), size=50):
        assert np.array_equal(found[i], logits_alone(model, tokens[i])[2])


def test_a_failed_step_ends_its_requests_and_no_others(path, monkeypatch):
    async def use(service):
        first, second = (service.streams.open(service.replica) for _ in range(2))
        step = service.replica.step
        monkeypatch.setattr(service.replica, "step", lambda rows, tokens: 1 / 0)
        failed = job(service, first, [1])
        await failed.ended.wait()
        monkeypatch.setattr(service.replica, "step", step)
        good = job(service, second, [1])
        await good.ended.wait()
        return failed.reason, good.reason

    assert asyncio.run(in_service(path, Limits(), use)) == ("failed", "done")


def test_a_model_that_is_none_and_a_bad_limit_end_the_program_with_a_sentence(tmp_path, path):
    for options, sentence in (([tmp_path / "none"], "none"), ([path, "--batch", "0"], "batch is 0")):
        done = subprocess.run(
            [sys.executable, "-m", "server", *map(str, options)], cwd=EXAMPLES, capture_output=True, text=True, timeout=60
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("server: ")
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_load_test_prints_a_table(path, monkeypatch, capsys):
    arguments = ["load", str(path), "--seconds", "0.2", "--clients", "3", "--length", "5", "--hold", "50"]
    monkeypatch.setattr(sys, "argv", arguments)
    load.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "1"], ["3", "1"], ["3", "3"]]
    assert lines[4].startswith("50 streams: opened in")

"""Several threads at once: the tables that transformers and torch keep for the process are changed by one at a time."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.activations import ACT2FN

import mpcify
from mpcify.conversion.convert import convert, extra_parameters, load_model, our_activations
from mpcify.conversion.survey import export_program

IDS = torch.tensor([[2, 4, 5, 6, 3]])


@pytest.fixture(autouse=True)
def restless():
    """Threads take turns so often that each meets the others in the middle of their work."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


def test_models_are_checked_converted_loaded_and_exported_at_once(checkpoint, tmp_path):
    folders = {family: checkpoint(family, name=family) for family in ("bert", "distilbert")}
    expected = {}
    for family, folder in folders.items():
        student = convert(folder, "2quad-freediv")
        student.save_pretrained(tmp_path / f"{family}-student")
        expected[family] = student(IDS).logits.detach()
    start = threading.Barrier(4)

    def work(family):
        start.wait()
        sites = [finding.module for finding in mpcify.check(folders[family]) if finding.kind == "replace"]
        student = mpcify.load(tmp_path / f"{family}-student")
        calls = [str(node.target) for node in export_program(student, 1, 8).graph.nodes]
        again = convert(load_model(folders[family]), "2quad-freediv")
        with torch.no_grad():
            return family, sites, calls.count("mpcify.attention.default"), student(IDS).logits, again(IDS).logits

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, [*folders, *folders]))
    for family, sites, attentions, *answers in results:
        assert (len(sites), attentions) == (4, 2)
        assert all(family in site for site in sites)
        for answer in answers:
            torch.testing.assert_close(answer, expected[family], rtol=1e-5, atol=1e-5)


def test_a_student_trains_while_another_is_exported(teacher):
    student, other = (convert(teacher("bert"), "2quad-freediv").train() for _ in range(2))
    began, done = threading.Event(), threading.Event()

    def export():
        began.set()
        for _ in range(3):
            export_program(other, 1, 8)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        exported = pool.submit(export)
        began.wait()
        while not done.is_set():
            student.zero_grad()
            student(IDS).logits.sum().backward()
            assert all(parameter.grad is not None for parameter in extra_parameters(student).values())
        exported.result()


def test_no_other_thread_loads_a_student_as_an_exact_model_meanwhile(teacher, tmp_path):
    convert(teacher("bert"), "2quad-freediv").save_pretrained(tmp_path)

    def load_as_exact():
        with pytest.raises(KeyError, match="mpcify-quad"):
            AutoModelForSequenceClassification.from_pretrained(tmp_path)
        return True

    with our_activations(), ThreadPoolExecutor(1) as pool:
        assert ACT2FN["mpcify-quad"].name == "quad"
        assert pool.submit(load_as_exact).result()
    assert "mpcify-quad" not in ACT2FN

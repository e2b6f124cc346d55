import copy
import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import mpcify
from mpcify.conversion.convert import convert, extra_parameters, load, load_model
from mpcify.conversion.student import encoder_layers, recipe_of, update_config
from mpcify.conversion.survey import export_program
from mpcify.errors import MpcifyError, MpcifyWarning
from mpcify.recipe import RECIPES, Recipe
from tests.makers import FAMILIES


def inputs(family):
    torch.manual_seed(1)
    if family == "vit":
        return {"pixel_values": torch.randn(2, 1, 8, 8)}
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    return {"input_ids": torch.randint(4, 15, (2, 9)), "attention_mask": mask}


def logits(model, family):
    with torch.no_grad():
        return model(**inputs(family)).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exact_recipe_changes_no_logit(family, teacher):
    model = teacher(family)
    # two float orders of the same sums
    torch.testing.assert_close(logits(convert(model, "exact"), family), logits(model, family), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_teacher_is_untouched(family, teacher):
    model = teacher(family)
    before, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    expected = logits(model, family)
    convert(model, "2quad-freediv")
    assert model.config.to_dict() == config
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(logits(model, family), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", ["2quad-freediv", "softmax-freediv", "mpcformer"])
def test_a_student_survives_its_folder(family, recipe, teacher, tmp_path):
    student = convert(teacher(family), recipe)
    for parameter in extra_parameters(student).values():
        parameter.data += torch.randn_like(parameter)
    student.save_pretrained(tmp_path / "student")
    again = mpcify.load(tmp_path / "student")
    assert recipe_of(again) == RECIPES[recipe]
    assert torch.equal(logits(again, family), logits(student, family))
    stored = json.loads((tmp_path / "student" / "config.json").read_text())["mpcify"]
    assert (stored["version"], stored["attention"]) == (1, RECIPES[recipe].attention)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_has_one_c_and_gamma_a_head(family, teacher):
    student = convert(teacher(family), "2quad-freediv")
    modules = 1 if family == "albert" else 2
    assert [tuple(value.shape) for value in extra_parameters(student).values()] == [(4,)] * (2 * modules)
    for site in encoder_layers(student):
        module = student.get_submodule(site.attention)
        torch.testing.assert_close(module.log_gamma.exp(), torch.full((4,), 1 / 26))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "vit"])
@pytest.mark.parametrize("recipe, activation", [("2quad-freediv", "mpcify-quad"), ("exact", "mpcify-gelu")])
def test_transformers_never_loads_a_student_as_an_exact_model(family, recipe, activation, teacher, tmp_path):
    student = convert(teacher(family), recipe)
    student.save_pretrained(tmp_path / "student")
    config = AutoConfig.from_pretrained(tmp_path / "student")
    assert activation in (getattr(config, "hidden_act", None), getattr(config, "activation", None))
    task = AutoModelForImageClassification if family == "vit" else AutoModelForSequenceClassification
    for loader in (AutoModel, task):
        with pytest.raises(KeyError, match=activation):
            loader.from_pretrained(tmp_path / "student")


def test_even_a_student_with_its_own_activation_is_not_loaded_as_exact(teacher, tmp_path):
    convert(teacher("bert"), Recipe("2quad-freediv", "own")).save_pretrained(tmp_path / "student")
    assert AutoConfig.from_pretrained(tmp_path / "student").hidden_act == "mpcify-gelu"
    with pytest.raises(KeyError):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")


def test_config_and_tokenizer_of_a_student_are_read_by_transformers(checkpoint, tmp_path):
    from mpcify.conversion.folder import save

    folder = checkpoint("bert")
    save(convert(load_model(folder), "2quad-freediv"), tmp_path / "student", folder)
    assert AutoTokenizer.from_pretrained(tmp_path / "student")("the film")["input_ids"] == [2, 4, 5, 3]


def test_layers_may_differ(teacher):
    recipe = Recipe(("softmax", "2quad-freediv"), ("gelu-poly", "quad"))
    student = convert(teacher("bert"), recipe)
    first, second = (student.get_submodule(site.attention) for site in encoder_layers(student))
    assert (first.mpcify_attention, second.mpcify_attention) == ("softmax", "2quad-freediv")
    assert first.log_gamma is None
    assert [student.get_submodule(site.activation).name for site in encoder_layers(student)] == ["gelu-poly", "quad"]


@pytest.mark.parametrize(
    "family, function",
    [("bert", "tanh"), ("roberta", "tanh"), ("electra", "gelu"), ("mpnet", "tanh"), ("distilbert", "relu")],
)
def test_functions_of_the_head_stay_exact(family, function, teacher):
    calls = [str(node.target) for node in export_program(convert(teacher(family), "2quad-freediv"), 1, 8).graph.nodes]
    assert calls.count(f"aten.{function}.default") == 1


def test_a_student_converts_on_and_keeps_what_both_have(teacher):
    student = convert(teacher("bert"), "mpcformer")
    for parameter in extra_parameters(student).values():
        parameter.data += torch.randn_like(parameter)
    onward = convert(student, "2quad-freediv")
    kept = extra_parameters(student)
    assert all(torch.equal(extra_parameters(onward)[name], value) for name, value in kept.items())
    assert recipe_of(convert(onward, "exact")).attention == "softmax"


def test_raw_scores_come_out_as_attentions(teacher):
    student = convert(teacher("bert"), Recipe("2quad-freediv", "quad"))
    outputs = student(**inputs("bert"), output_attentions=True)
    attention = student.get_submodule(encoder_layers(student)[0].attention)
    hidden = student.bert.embeddings(inputs("bert")["input_ids"])
    q, k = (layer(hidden).view(2, 9, 4, 8).transpose(1, 2) for layer in (attention.query, attention.key))
    torch.testing.assert_close(outputs.attentions[0], q @ k.transpose(2, 3) / 8**0.5)


def test_attention_customised_by_something_else_is_refused(teacher):
    model = teacher("bert")
    model.bert.encoder.layer[0].attention.self.query = torch.nn.Sequential(
        model.bert.encoder.layer[0].attention.self.query
    )
    with pytest.raises(MpcifyError, match=r"MPC-206 bert\.encoder\.layer\.0\.attention\.self\.query"):
        convert(model, "2quad-freediv")


def test_weights_that_are_not_finite_are_refused(teacher):
    model = teacher("bert")
    model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(MpcifyError, match=r"MPC-205 classifier\.weight"):
        convert(model, "2quad-freediv")


def unsupported(name):
    import transformers as hf

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 50,
    }
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 1}
    return {
        "gpt2": lambda: hf.GPT2ForSequenceClassification(
            hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, bos_token_id=0, eos_token_id=0, pad_token_id=0)
        ),
        "mpnet": lambda: hf.MPNetForSequenceClassification(hf.MPNetConfig(**small)),
        "deberta-v2": lambda: hf.DebertaV2ForSequenceClassification(hf.DebertaV2Config(**small)),
        "modernbert": lambda: hf.ModernBertForSequenceClassification(hf.ModernBertConfig(**small, **special)),
        "bert decoder": lambda: hf.BertForSequenceClassification(hf.BertConfig(**small, is_decoder=True)),
        "tokens": lambda: hf.BertForTokenClassification(hf.BertConfig(**small)),
        "answers": lambda: hf.BertForQuestionAnswering(hf.BertConfig(**small)),
        "several labels": lambda: hf.BertForSequenceClassification(
            hf.BertConfig(**small, problem_type="multi_label_classification")
        ),
    }[name]().eval()


@pytest.mark.parametrize(
    "name", ["gpt2", "deberta-v2", "modernbert", "bert decoder", "tokens", "answers", "several labels"]
)
def test_what_is_not_supported_is_refused(name):
    with pytest.raises(MpcifyError, match="MPC-203"):
        convert(unsupported(name), "2quad-freediv")


@pytest.mark.parametrize("name", ["gpt2", "mpnet", "deberta-v2", "modernbert"])
def test_the_trace_refuses_them_without_knowing_their_names(name, monkeypatch):
    monkeypatch.setattr("mpcify.conversion.convert.REFUSED", {})
    monkeypatch.setattr("mpcify.conversion.families.FAMILIES", {})
    with pytest.raises(MpcifyError, match=r"MPC-20[34]"):
        convert(unsupported(name), "2quad-freediv")


def test_a_teacher_is_no_student(checkpoint):
    with pytest.raises(MpcifyError, match="MPC-207"):
        load(checkpoint("bert"))


@pytest.mark.parametrize(
    "damage, code", [("missing", 201), ("empty", 202), ("config", 202), ("weights", 202), ("head", 202)]
)
def test_what_is_no_checkpoint_is_refused(damage, code, checkpoint, tmp_path):
    folder = checkpoint("bert")
    if damage == "missing":
        folder = tmp_path / "nowhere"
    elif damage == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        model = load_model(folder)
        model.bert.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config["architectures"] = ["BertForSequenceClassification"]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MpcifyError) as raised:
        load_model(folder)
    assert raised.value.code == code


def patch_forward(model):
    attention = model.bert.encoder.layer[0].attention.self
    attention.forward = type(attention).forward.__get__(attention)


def patch_scaling(model):
    model.bert.encoder.layer[0].attention.self.scaling = 3.0


def add_hook(model):
    model.bert.encoder.layer[1].output.register_forward_hook(lambda module, inputs, output: output * 2)


def widen_head(model):
    model.classifier = torch.nn.Linear(32, 5)


def change_types(model):
    model.bert.embeddings.token_type_ids.fill_(1)  # which no state_dict holds


def name_a_class_alike(model):
    class BertOutput(type(model.bert.encoder.layer[0].output)):
        def forward(self, *args):
            return 2 * super().forward(*args)

    model.bert.encoder.layer[0].output.__class__ = BertOutput


def take_pooler_off(model):
    model.bert.pooler.activation = torch.nn.Identity()


def change_eps(model):
    model.bert.encoder.layer[1].output.LayerNorm.eps = 0.5


CHANGES = [patch_forward, patch_scaling, add_hook, name_a_class_alike, take_pooler_off, change_eps]


@pytest.mark.parametrize("change", CHANGES)
def test_a_student_that_was_changed_converts_no_further(change, teacher):
    student = convert(teacher("bert"), "softmax-freediv")
    change(student)
    with pytest.raises(MpcifyError, match="MPC-206"):
        convert(student, "2quad-freediv")


@pytest.mark.parametrize("change", [*CHANGES, widen_head])
def test_a_change_that_a_student_would_lose_is_refused(change, teacher):
    model = teacher("bert")
    change(model)
    with pytest.raises(MpcifyError, match="MPC-206"):
        convert(model, "2quad-freediv")
    assert mpcify.check(model)[0].code == "MPC-206"


def test_a_buffer_that_no_state_dict_holds_is_not_lost(teacher):
    for model in (teacher("bert"), convert(teacher("bert"), "softmax-freediv")):
        change_types(model)
        with pytest.raises(MpcifyError, match=r"MPC-206 bert\.embeddings\.token_type_ids"):
            convert(model, "2quad-freediv")


def test_a_quantised_model_is_refused(teacher):
    model = torch.ao.quantization.quantize_dynamic(teacher("bert"), {torch.nn.Linear})
    with pytest.raises(MpcifyError, match="MPC-206"):
        convert(model, "2quad-freediv")


@pytest.mark.parametrize("names", [{"0": "a", "1": "b", "2": "c"}, {1: "a", 2: "b", 3: "c"}])
def test_labels_that_are_not_numbered_from_0_are_refused(names, teacher):
    model = teacher("bert")
    model.config.id2label = names
    with pytest.raises(MpcifyError, match=r"MPC-202 .*id2label"):
        convert(model, "exact")


def test_layers_that_work_in_chunks_convert_as_others_do(teacher, tmp_path):
    teacher("bert").save_pretrained(tmp_path / "teacher")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher", chunk_size_feed_forward=3)
    torch.testing.assert_close(logits(convert(model.eval(), "exact"), "bert"), logits(teacher("bert"), "bert"))


def test_transformers_own_loading_of_a_students_class_gives_the_student(teacher, tmp_path):
    student = convert(teacher("bert"), "2quad-freediv")
    student.save_pretrained(tmp_path / "student")
    loaded = type(student).from_pretrained(tmp_path / "student").eval()
    torch.testing.assert_close(logits(loaded, "bert"), logits(student, "bert"))


def test_a_student_whose_weights_were_fitted_says_so_when_it_converts_on(teacher):
    student = convert(teacher("bert"), "2quad-freediv")
    update_config(student, calibrated=True, refit=True)
    with pytest.warns(MpcifyWarning, match=r"exact: the weights were fitted to 2quad-freediv.*convert the teacher"):
        convert(student, "exact")


@pytest.mark.parametrize("own, recipe", [("relu", "puma"), ("silu", "exact-tanh"), ("gelu", Recipe("softmax", "relu"))])
def test_a_recipe_that_trains_nothing_says_so_if_its_activation_is_not_the_models_own(own, recipe, teacher):
    with pytest.warns(MpcifyWarning, match=rf"stands for the model's own activation '{own}'.*distill the student"):
        convert(teacher("bert", hidden_act=own), recipe)


@pytest.mark.parametrize("positions", [2, 3, 5, 8])
def test_a_model_of_a_few_positions_converts(positions, teacher):
    model = teacher("bert", max_position_embeddings=positions)
    few = {name: value[:, :positions] for name, value in inputs("bert").items()}
    with torch.no_grad():
        torch.testing.assert_close(convert(model, "exact")(**few).logits, model(**few).logits)


def test_a_model_that_takes_no_text_is_said_to(teacher):
    model = teacher("bert", max_position_embeddings=1)
    with pytest.raises(MpcifyError, match="MPC-203 bert: it takes 1 token, and every text has more"):
        convert(model, "exact")
    (finding,) = mpcify.check(model)
    assert (finding.code, finding.kind) == ("MPC-203", "never")


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "vit"])
def test_a_model_that_has_answered_is_not_taken_for_a_changed_one(family, teacher):
    model = teacher(family)
    model(**inputs(family), output_hidden_states=True, output_attentions=True)
    convert(model, "2quad-freediv")


def test_a_pickled_checkpoint_is_not_read(checkpoint):
    folder = checkpoint("bert")
    torch.save(load_model(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MpcifyError, match=r"MPC-202 .*safetensors"):
        load_model(folder)


def test_a_student_whose_layers_are_not_all_named_is_not_loaded(teacher, tmp_path):
    convert(teacher("bert"), "2quad-freediv").save_pretrained(tmp_path / "student")
    path = tmp_path / "student" / "config.json"
    for damage in (lambda layers: layers.pop(), lambda layers: layers[0].update(activation="bert.pooler.activation")):
        config = json.loads(path.read_text())
        damage(config["mpcify"]["layers"])
        path.write_text(json.dumps(config))
        with pytest.raises(MpcifyError, match="MPC-202"):
            load(tmp_path / "student")


def test_a_value_from_an_image_is_not_supported(teacher):
    with pytest.raises(MpcifyError, match="MPC-203"):
        convert(teacher("vit", labels=1), "2quad-freediv")


@pytest.mark.parametrize("name", ["LiltForSequenceClassification", "CanineForSequenceClassification"])
def test_a_model_that_cannot_be_traced_is_refused_with_a_number(name):
    import transformers as hf

    kind = getattr(hf, name)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with pytest.raises(MpcifyError, match=r"MPC-20[34]"):
        convert(kind(kind.config_class(**small)).eval(), "2quad-freediv")

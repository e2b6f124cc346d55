"""The demo's teacher: a small BERT, trained from nothing on the demo's language, with its tokenizer."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from mpcify.demo.grammar import Review, vocabulary
from mpcify.progress import Progress

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
LONGEST = 32  # tokens, of which a sentence takes up to 24
BATCH, RATE = 64, 1e-3
SHORT = 13  # words: the first half of the epochs sees shorter sentences alone: negation in them is easier to learn


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of the language, in lower case."""
    words = {word: index for index, word in enumerate((*SPECIAL, *vocabulary()))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, words[word]) for word in ("[CLS]", "[SEP]")],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LONGEST, model_input_names=INPUTS, **names
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> BertForSequenceClassification:
    """A BERT of two layers, 64 wide, with random weights; equal for equal seeds."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,  # so narrow a model barely starts from BERT's 0.02
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForSequenceClassification(config)


def schedule(reviews: Sequence[Review], epochs: int, seed: int) -> list[list[Review]]:
    """The batches of all epochs in the order of training; what fills no batch at an epoch's end is left out."""
    shuffle = torch.Generator().manual_seed(seed)
    short = [review for review in reviews if len(review.text.split()) <= SHORT]
    steps = []
    for epoch in range(epochs):
        rows = short if epoch < epochs // 2 else reviews
        order = torch.randperm(len(rows), generator=shuffle).tolist()
        starts = range(0, len(order) - BATCH + 1, BATCH)
        steps += [[rows[index] for index in order[start : start + BATCH]] for start in starts]
    return steps


def train(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    steps: Sequence[Sequence[Review]],
    progress: Progress = lambda done: None,
) -> None:
    """Trains the model in place, a batch a step: AdamW, a tenth of the steps as warm-up, then linear decay.

    progress: called with how many steps are done.
    """
    warm_up = max(1, len(steps) // 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    scheduler = LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1 - step / len(steps)))
    model.train()
    for done, batch in enumerate(steps, 1):
        inputs = tokenizer([review.text for review in batch], padding=True, return_tensors="pt")
        model(**inputs, labels=torch.tensor([review.label for review in batch])).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        progress(done)
    model.eval()

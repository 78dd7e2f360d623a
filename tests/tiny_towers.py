"""Text towers of a few kilobytes with random weights; no real ones can be had without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "dog", "cat", "sea", "red", "dark", "blue")
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 224, "layers": 3, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def write_clip(folder: Path, name: str = "tiny-clip") -> str:
    """Write the json of an architecture of open_clip; return the tower of it with random weights."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(CLIP))
    return f"open_clip:{file}:random:0"


def write_static(folder: Path) -> str:
    """Write a model of model2vec: a random vector of 8 numbers for every word of the vocabulary."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(VOCABULARY), 8)).astype(np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return f"model2vec:{folder}"


def write_sentence(folder: Path) -> str:
    """Write a model of sentence-transformers: a BERT of one layer and 16 numbers, mean pooling, 8 tokens at most."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    base = folder / "base"
    base.mkdir(parents=True)
    (base / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizer(str(base / "vocab.txt")).save_pretrained(base)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=16, **shape)).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=8)
    pooling = Pooling(16)
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder / "model"))
    return f"sentence-transformers:{folder / 'model'}"

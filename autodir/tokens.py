"""Text → token ids: CLIP's own byte-pair encoding, and a small one learnt from the phrase corpus.

Apart from the towers so that both scales share one text path: `Tokens` is all that a tower sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from open_clip import SimpleTokenizer
from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from autodir.errors import CheckpointError

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Encoded phrases.

    Attributes:
        ids: int64 (B, L), BOS … EOS, then pad ids.
        last: int64 (B,) index of EOS; whatever comes later is padding.
    """

    ids: Tensor
    last: Tensor


class Tokenizer(Protocol):
    """What a text tower needs from a tokenizer."""

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""

    def encode(self, phrases: Sequence[str], length: int) -> Tokens:
        """Encode to ``length`` tokens a row; what is too long loses its end but keeps EOS."""

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs into the folder; nothing, where a library has it."""


class PhraseTokenizer:
    """Byte-level BPE: any UTF-8 has a code, case makes no difference, a typo splits finer."""

    def __init__(self, bpe: Bpe) -> None:
        self._bpe = bpe
        pad, bos, eos = (bpe.token_to_id(name) for name in (PAD, BOS, EOS))
        if pad is None or bos is None or eos is None:
            raise CheckpointError(f"the tokenizer lacks one of {PAD}, {BOS}, {EOS}")
        self._pad, self._bos, self._eos = pad, bos, eos
        bpe.encode_special_tokens = True  # a user's "<eos>" is text like any other

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""
        return int(self._bpe.get_vocab_size())

    def encode(self, phrases: Sequence[str], length: int) -> Tokens:
        """Encode to ``length`` tokens a row; what is too long loses its end but keeps EOS."""
        coded = self._bpe.encode_batch(list(phrases), add_special_tokens=False)
        return _frame([item.ids for item in coded], length, self._bos, self._eos, self._pad)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        text = self._bpe.to_str(pretty=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


class ClipTokenizer:
    """CLIP's BPE of 49408 entries.

    Args:
        pad: what stands behind the end token; None is that token 49407 again, as in the published
            AutoDIR, and 0 is what OpenCLIP's models were trained with.
    """

    def __init__(self, pad: int | None = None) -> None:
        self._bpe = SimpleTokenizer()
        self._pad = self._bpe.eot_token_id if pad is None else pad

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""
        return int(self._bpe.vocab_size)

    def encode(self, phrases: Sequence[str], length: int) -> Tokens:
        """Encode to ``length`` tokens a row; what is too long loses its end but keeps EOS."""
        eos = self._bpe.eot_token_id
        rows = [self._bpe.encode(phrase) for phrase in phrases]
        return _frame(rows, length, self._bpe.sot_token_id, eos, self._pad)

    def save(self, folder: Path) -> None:
        """Write nothing: the vocabulary is part of open_clip."""


def learn_tokenizer(phrases: Iterable[str], vocabulary: int = 4096) -> PhraseTokenizer:
    """Learn a byte-level BPE; the same phrases in the same order give the same tokenizer.

    Args:
        phrases: the text to learn from.
        vocabulary: the largest number of entries, with 256 bytes and 3 special ones in it.
    """
    bpe = Bpe(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(sorted(set(phrases)), trainer)
    return PhraseTokenizer(bpe)


def load_tokenizer(kind: str, folder: Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Args:
        kind: "clip", "open_clip" or "bpe", as the model's config says.
        folder: where ``tokenizer.json`` lies, for "bpe".
    Raises:
        CheckpointError: the file is missing or malformed, or the kind unknown.
    """
    if kind in ("clip", "open_clip"):
        return ClipTokenizer(pad=0 if kind == "open_clip" else None)
    if kind != "bpe":
        raise CheckpointError(
            f"unknown tokenizer kind {kind!r}", "choose from clip, open_clip, bpe"
        )
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    try:
        return PhraseTokenizer(Bpe.from_str(text))
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path} is no tokenizer: {error}") from error


def _frame(rows: Sequence[Sequence[int]], length: int, bos: int, eos: int, pad: int) -> Tokens:
    """BOS + row + EOS, cut and padded to ``length``."""
    ids = torch.full((len(rows), length), pad, dtype=torch.long)
    last = torch.zeros(len(rows), dtype=torch.long)
    for index, row in enumerate(rows):
        kept = [bos, *row[: length - 2], eos]
        ids[index, : len(kept)] = torch.tensor(kept)
        last[index] = len(kept) - 1
    return Tokens(ids, last)

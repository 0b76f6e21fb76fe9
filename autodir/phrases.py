"""How people name a degradation: words × frames of ``prompts/phrases/``, in one fixed order.

Apart from the taxonomy because only the training of the text tower needs phrases.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from autodir.errors import PromptError

UNKNOWN = "unknown"
SLOTS = ("noun", "adjective", "verb", "object", "sentence")
_WRAP = "wrap"
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

T = TypeVar("T")
Frames = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Word:
    """One way to name a degradation: noun ("fog"), adjective ("hazy"), verb ("dehaze"), sentence.

    Attributes:
        key: the degradation, "no", or "unknown" for words that name none.
        language: of the frames that it fits into.
        slot: one of `SLOTS`.
        text: the words themselves.
    """

    key: str
    language: str
    slot: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseCorpus:
    """Words and the frames around them.

    Attributes:
        words: in the order of the files.
        frames: language → slot → sentences with a field ``{x}``; "wrap" goes around any of them.
    """

    words: tuple[Word, ...]
    frames: Frames

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have words, in the order of the files, "unknown" excluded."""
        return tuple(dict.fromkeys(word.key for word in self.words if word.key != UNKNOWN))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Phrases that name no degradation."""
        return self.phrases(UNKNOWN)

    def phrases(self, key: str) -> tuple[str, ...]:
        """All different phrases of a key, each word in each frame that fits it.

        Raises:
            PromptError: the corpus has no words for the key.
        """
        words = self.words_of(key)
        return tuple(dict.fromkeys(phrase for word in words for phrase in self._framed(word)))

    def words_of(self, key: str) -> tuple[Word, ...]:
        """The words of a key.

        Raises:
            PromptError: there are none.
        """
        words = tuple(word for word in self.words if word.key == key)
        if not words:
            raise PromptError(
                f"no phrases for {key!r}", f"known: {', '.join((*self.keys, UNKNOWN))}"
            )
        return words

    def draw(self, word: Word, rng: random.Random, wrap: float = 0.3) -> str:
        """The word in a random frame, at times with a greeting or a story around it.

        Args:
            word: one of `words`.
            rng: the source of chance.
            wrap: probability that something is put around it.
        """
        frames = self.frames[word.language]
        phrase = _fill(rng.choice(frames[word.slot]), word.text)
        if rng.random() < wrap and frames.get(_WRAP):
            phrase = _fill(rng.choice(frames[_WRAP]), phrase)
        return phrase

    def split(self, seed: int = 0, holdout: float = 0.1) -> tuple[PhraseCorpus, PhraseCorpus]:
        """Divide whole words and frames: the second part has a wording the first never saw.

        Args:
            seed: of the division.
            holdout: share of the words, and of the frames, that go into the second part.
        Returns:
            Corpora to learn from and to measure on, without a common word or frame (a slot with one
            frame shares it).
        """
        rng = random.Random(seed)
        groups: dict[tuple[str, str, str], list[Word]] = {}
        for word in self.words:
            groups.setdefault((word.key, word.language, word.slot), []).append(word)
        parts = [_divide(group, holdout, rng) for group in groups.values()]
        learn_frames: dict[str, dict[str, tuple[str, ...]]] = {}
        held_frames: dict[str, dict[str, tuple[str, ...]]] = {}
        for language, slots in self.frames.items():
            for slot, frames in slots.items():
                most, few = _divide(frames, holdout, rng, least=1)
                learn_frames.setdefault(language, {})[slot] = tuple(most or frames)
                held_frames.setdefault(language, {})[slot] = tuple(few or frames)
        learn = tuple(word for part, _ in parts for word in part)
        held = tuple(word for _, part in parts for word in part)
        return (
            PhraseCorpus(words=learn, frames=learn_frames),
            PhraseCorpus(words=held, frames=held_frames),
        )

    def _framed(self, word: Word) -> Iterable[str]:
        return (_fill(frame, word.text) for frame in self.frames[word.language][word.slot])


def build_corpus(tables: Mapping[str, Mapping[str, Any]]) -> PhraseCorpus:
    """Make a corpus of the parsed files: one table per key, and the table "frames".

    Raises:
        PromptError: a language or slot is unknown, a frame has no ``{x}``, or a word is empty.
    """
    frames: dict[str, dict[str, tuple[str, ...]]] = {}
    for language, slots in _languages(tables["frames"]):
        for slot, rows in slots.items():
            _check_slot("frames", slot, (*SLOTS, _WRAP))
            for row in rows:
                if "{x}" not in row:
                    raise PromptError(f"frames: {row!r} must hold {{x}}")
            frames.setdefault(language, {})[slot] = tuple(rows)
    words: list[Word] = []
    for key, table in tables.items():
        if key == "frames":
            continue
        for language, slots in _languages(table):
            for slot, rows in slots.items():
                _check_slot(key, slot, SLOTS)
                if not frames.get(language, {}).get(slot):
                    raise PromptError(
                        f"{key}: frames.toml has no {slot!r} frames for language {language!r}"
                    )
                if not all(isinstance(row, str) and row.strip() for row in rows):
                    raise PromptError(f"{key}: an empty {slot} in language {language!r}")
                words += [Word(key, language, slot, row) for row in dict.fromkeys(rows)]
    return PhraseCorpus(words=tuple(words), frames=frames)


def augment(phrase: str, rng: random.Random) -> str:
    """The phrase as a hurried person might type it: slips, case, punctuation, missing accents.

    Words of fewer than four letters keep their letters, so that the meaning stays.
    """
    words = phrase.split(" ")
    slips = rng.choices((0, 1, 2), weights=(6, 3, 1))[0]
    for _ in range(slips):
        long = [index for index, word in enumerate(words) if sum(map(str.isalpha, word)) >= 4]
        if long:
            index = rng.choice(long)
            words[index] = rng.choice(_SLIPS)(words[index], rng)
    text = " ".join(words)
    if rng.random() < 0.15:
        text = _plain(text)
    if rng.random() < 0.2:
        text = rng.choice((str.upper, str.lower, str.title, str.capitalize))(text)
    if rng.random() < 0.3:
        text = text.rstrip(".!?。") + rng.choice(("", ".", "!", "!!", "...", " please", "?", " :)"))
    return text


def _swap(word: str, rng: random.Random) -> str:
    i = rng.randrange(len(word) - 1)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _drop(word: str, rng: random.Random) -> str:
    i = rng.randrange(1, len(word))
    return word[:i] + word[i + 1 :]


def _double(word: str, rng: random.Random) -> str:
    i = rng.randrange(len(word))
    return word[:i] + word[i] + word[i:]


def _neighbor(word: str, rng: random.Random) -> str:
    """A key beside the right one."""
    i = rng.randrange(len(word))
    for row in _KEYBOARD:
        place = row.find(word[i].lower())
        if place >= 0:
            near = row[max(0, place - 1) : place] + row[place + 1 : place + 2]
            return word[:i] + rng.choice(near) + word[i + 1 :]
    return word


_SLIPS: tuple[Callable[[str, random.Random], str], ...] = (_swap, _drop, _double, _neighbor)


def _plain(text: str) -> str:
    """Without accents: "über" → "uber", "trouvé" → "trouve"."""
    split = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in split if not unicodedata.combining(c)))


def _fill(frame: str, text: str) -> str:
    return frame.replace("{x}", text)


def _divide(
    rows: Sequence[T], holdout: float, rng: random.Random, least: int = 0
) -> tuple[list[T], list[T]]:
    """Two parts in the given order; the second has about ``holdout`` of the rows, never all."""
    count = min(max(round(holdout * len(rows)), least), len(rows) - 1)
    held = set(rng.sample(range(len(rows)), count))
    return [r for i, r in enumerate(rows) if i not in held], [
        r for i, r in enumerate(rows) if i in held
    ]


def _languages(table: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for language, slots in table.items():
        if language == "schema":
            continue
        if not isinstance(slots, Mapping):
            raise PromptError(
                f"a phrase file holds one table per language, got {language} = {slots!r}"
            )
        yield language, slots


def _check_slot(key: str, slot: str, known: Sequence[str]) -> None:
    if slot not in known:
        raise PromptError(f"{key}: unknown slot {slot!r}", f"choose from {', '.join(known)}")

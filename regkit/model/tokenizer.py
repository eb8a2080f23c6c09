"""Tokenizer: turn texts into ids by a checkpoint's own files, with special tokens around them.

The `tokenizers` library does the work.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from regkit.base.errors import EncoderError
from regkit.model.tokenizer_classes import BERT, ROLES, SEGMENTS, template
from regkit.model.tokenizer_files import read_tokenizer
from regkit.model.tokenizer_parts import library_errors


class Tokenizer:
    """The ids of texts, and special tokens: `cls` begins a sequence, `sep` ends it, `unk` is unknown.

    `settings` are what tokenizer_config.json says beside tokenizer.json; without them, the special tokens are BERT's.
    """

    def __init__(self, backend: Backend, settings: Mapping[str, Any] | None = None) -> None:
        self.backend = backend
        self.backend.no_padding()  # a checkpoint's file may ask for padding and truncation
        self.backend.no_truncation()
        self.settings: dict[str, Any] = dict(settings or {**BERT, "model_input_names": SEGMENTS})
        self.unk = self.backend.token_to_id(self.settings.get("unk_token", ""))
        if not self._around(1)[0]:  # a tokenizer.json may have no template
            self.backend.post_processor = template(self.backend, self._name("cls_token"), self._name("sep_token"))
        self.around = {texts: self._around(texts) for texts in (1, 2)}
        self.cls = self.around[1][0][0]

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read a folder's tokenizer as transformers does. Raises EncoderError if that cannot be."""
        with library_errors(f"{folder} has a tokenizer that fails"):
            return cls(*read_tokenizer(folder))

    def __len__(self) -> int:
        """Return one more than the highest id: the number of embeddings that are needed."""
        return max(number for word, number in self.backend.get_vocab().items() if word) + 1  # a blank line is no word

    @property
    def sep(self) -> int:
        """The id of the token that ends a text."""
        return self._id("sep_token")

    @property
    def mask(self) -> int:
        """The id of the token that hides a word."""
        return self._id("mask_token")

    def vocabulary(self) -> dict[str, int]:
        """Map every word to its id."""
        return dict(self.backend.get_vocab())

    def special(self) -> set[int]:
        """List the ids of the special tokens, of which none stands for a piece of text."""
        added = {number for number, token in self.backend.get_added_tokens_decoder().items() if token.special}
        named = [self.backend.token_to_id(self.settings[role]) for role in ROLES if role in self.settings]
        return added | {number for number in named if number is not None}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn each text into ids, without special tokens.

        One call for many texts is many times faster than many calls.
        """
        with library_errors("the tokenizer failed"):
            return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def room(self, texts: int) -> int:
        """Count the special tokens of a sequence of one or two texts."""
        return sum(map(len, self.around[texts]))

    def join(self, texts: Sequence[Sequence[int]]) -> tuple[list[int], int]:
        """Join the ids of one or two texts to a sequence.

        Returns it, and where the second text begins, or the end.
        """
        first, *others = self.around[len(texts)]
        sequence, begins = [*first], 0
        for ids, special in zip(texts, others, strict=True):
            begins = len(sequence)
            sequence += [*ids, *special]
        return sequence, begins if len(texts) == 2 else len(sequence)

    def split(self, sequence: np.ndarray, begins: int) -> list[np.ndarray]:
        """Take the ids of the one or two texts out of a sequence, as `join` put them there."""
        if begins >= len(sequence):
            before, after = map(len, self.around[1])
            return [sequence[before : len(sequence) - after]]
        before, between, after = map(len, self.around[2])
        return [sequence[before : begins - between], sequence[begins : len(sequence) - after]]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and the tokenizer_config.json by which transformers takes it as it is."""
        try:
            self.backend.save(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception, for a full disk as well
            raise OSError(str(error)) from error
        text = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **self.settings}, indent=2)
        (folder / "tokenizer_config.json").write_text(text, encoding="utf8")

    def _around(self, texts: int) -> list[list[int]]:
        """Read off the template the special tokens before, between and after one or two texts."""
        word = next((token.content for token in self.backend.get_added_tokens_decoder().values()), "a")
        encoding = self.backend.encode(word, word if texts == 2 else None)
        around: list[list[int]] = [[]]
        order = [text for text in dict.fromkeys(encoding.sequence_ids) if text is not None]
        for number, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
            if text is None:
                around[-1].append(number)
            elif text == len(around) - 1:  # the next text begins
                around.append([])
        if order != list(range(texts)):
            raise EncoderError("the tokenizer's template does not hold each text once, in order.")
        return around

    def _id(self, role: str) -> int:
        return self.vocabulary()[self._name(role)]

    def _name(self, role: str) -> str:
        """Return the special token of a role. Raises EncoderError if the vocabulary has none."""
        name = str(self.settings.get(role, ""))
        if self.backend.token_to_id(name) is None:
            raise EncoderError(f"the tokenizer has no {name or role}, which is needed here.")
        return name

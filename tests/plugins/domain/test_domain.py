"""The domain plugin: the tasks and splits that it declares from a corpus and its options."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.domain import Domain
from regkit_plugins.domain.masking import MaskedTexts

from regkit import Classification, Task
from regkit.base.errors import PluginError
from regkit.tasks.task import Examples
from regkit.testing import TINY, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer
from tests.helpers import stages_of
from tests.plugins.domain.helpers import random_documents, tokens_of, write_corpus


def declared(domain: Domain, given: Sequence[Task] = ()) -> tuple[dict[str, Task], Trainer]:
    """The stage's own tasks by name, of a run of these tasks."""
    trainer = tiny_trainer({"domain": domain}, tasks=given or [tiny_tasks()[0]])
    return {task.name: task for task in trainer.tasks if task.name in domain.names}, trainer


def words_task(name: str, split_texts: Mapping[str, Sequence[Sequence[int]]], pair_mode: Any = None) -> Task:
    """A task of these texts, of which two after another are a pair."""
    together = pair_mode == "cross_encoder"
    splits = {}
    for split, texts in split_texts.items():
        pairs = [[2, *one, 3, *other, 3] for one, other in zip(texts[::2], texts[1::2], strict=False)]
        rows = pairs if together else [[2, *text, 3] for text in texts]
        flat = np.array([token for row in rows for token in row], np.int32)
        offsets = np.cumsum([0, *map(len, rows)])
        sides = 2 if pair_mode == "bi_encoder" else 1
        labels = torch.arange(len(rows) // sides) % 2
        segments = np.array([int(together and n > row.index(3)) for row in rows for n in range(len(row))], np.int8)
        splits[split] = Examples(flat, segments, offsets, labels, sides)
    return Task(name, Classification(2), splits, pair_mode)  # type: ignore[arg-type]


def everything(task: Task) -> list[tuple[int, ...]]:
    """All sequences of a task's corpus, the trained and the scored, without special tokens."""
    return [tuple(each) for split in task.splits.values() for each in tokens_of(split)]


def test_the_corpus_of_the_tasks_is_the_texts_of_their_training_splits_each_once() -> None:
    one = words_task("one", {"train": [[10, 11], [12], [10, 11]], "dev": [[20]], "test": [[21]]})
    two = words_task("two", {"train": [[30, 31], [10, 11], [32], [33]], "dev": [[22], [23]]}, "cross_encoder")
    three = words_task("three", {"train": [[40, 41], [42], [12], [43]], "dev": [[24], [25]]}, "bi_encoder")
    tasks, _ = declared(Domain("tasks"), [one, two, three])
    wanted = [(10, 11), (12,), (30, 31), (32,), (33,), (40, 41), (42,), (43,)]
    assert sorted(everything(tasks["mlm"])) == wanted
    assert tasks.keys() == {"mlm"}  # texts of their own are no documents


LEAKED = [[70, 71, 72, 73, 74, 75, 76, 77, 78], [80, 81, 82, 83, 84, 85, 86, 87, 88], [90, 91]]


@pytest.mark.parametrize("leaks", ["keep", "drop"])
def test_texts_that_will_be_scored_are_counted_by_task_and_dropped_if_asked(leaks: Any, tmp_path: Path) -> None:
    documents = random_documents(8, longest=4)
    documents[1].insert(1, [*LEAKED[0], 10])  # within a passage
    documents[3].insert(0, LEAKED[1])
    documents[5].append(LEAKED[2])  # short, and a passage of its own
    one = words_task("one", {"train": [[10, 11]], "dev": [LEAKED[0], [30, 31]], "test": [LEAKED[2]]})
    two = words_task("two", {"train": [*documents[6][:2]], "dev": [LEAKED[0], LEAKED[1]]}, "cross_encoder")
    corpus = write_corpus(tmp_path / "corpus.txt", documents)
    tasks, _ = declared(Domain(corpus, leaks=leaks), [one, two])
    notes = " ".join(tasks["mlm"].notes)
    assert "2 of 3 dev and test texts of task one are in the corpus." in notes
    assert "2 of 2 dev and test texts of task two are in the corpus." in notes
    kept = [passage for document in documents for passage in document]
    if leaks == "drop":
        assert "The 3 passages that hold them are dropped." in notes
        kept = [passage for passage in kept if passage[:9] not in LEAKED]
    else:
        assert "They are in 3 passages, which are kept; domain:leaks=drop drops them." in notes
    found = [token for sequence in everything(tasks["mlm"]) for token in sequence]
    assert Counter(found) == Counter(token for passage in kept for token in passage)


def test_a_corpus_without_leaks_has_none_to_tell_of(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(8))
    tasks, _ = declared(Domain(corpus, leaks="drop"), [words_task("one", {"train": [[10]], "dev": [LEAKED[0]]})])
    assert not [note for note in tasks["mlm"].notes if "dev" in note or "drop" in note]


def test_the_options_reach_what_they_are_of(corpus: str) -> None:
    tasks, trainer = declared(Domain(corpus, mask=0.5, whole_words=True, batch_size=7, length=20, held_out=4, epochs=3))
    for part in tasks["mlm"].splits.values():
        assert isinstance(part, MaskedTexts)
        assert (part.words.share, part.words.whole, part.words.count, part.room) == (0.5, True, TINY.vocab_size, 20)
    assert [task.batch_size for task in tasks.values()] == [7, 7]
    assert [tasks["nsp"].objective.text(label) for label in (0, 1)] == ["follows", "from_another_document"]
    ((stage, _), _) = stages_of(trainer)
    assert (stage.name, stage.epochs, stage.steps, stage.learning_rate) == ("domain", 3, None, 5e-5)


def test_no_sequence_is_longer_than_the_encoder_reads_or_the_option_says(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(20, longest=60))
    for length, room in [(128, 32), (20, 20)]:
        tasks, _ = declared(Domain(corpus, length=length, held_out=4))
        for task in tasks.values():
            train = task.splits["train"]
            assert max(train.lengths()) == max(train.batch(range(len(train)), range(len(train))).lengths) == room


@pytest.mark.parametrize("nsp", [None, True, False])
def test_next_passages_are_a_task_where_they_can_be_unless_told_otherwise(nsp: bool | None, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", [*random_documents(8), [[10]]])
    tasks, _ = declared(Domain(corpus, nsp=nsp, held_out=3))
    assert list(tasks) == (["mlm"] if nsp is False else ["mlm", "nsp"])
    if nsp is not False:
        assert list(tasks["nsp"].notes) == ["1 of 9 documents have no two passages, and give no pair."]


def test_a_small_corpus_has_pairs_to_score_without_further_options(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(12))
    tasks, _ = declared(Domain(corpus))
    assert list(tasks) == ["mlm", "nsp"]
    assert list(declared(Domain(corpus, nsp=True))[0]) == ["mlm", "nsp"]


def test_the_tasks_of_no_data_cannot_be_read() -> None:
    with pytest.raises(
        PluginError, match=r"'domain' has no tasks whose texts it could read; name a corpus, or --data\."
    ):
        tiny_trainer({"domain": Domain("tasks")}, tasks=[])

"""Damage: texts are changed as people change them, a little, always alike, and never so that they say something else."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.data.damage import CHANGES, LONG, WORD, damaged, synonyms, typos
from regkit.data.damage.keys import NEIGHBOURS
from regkit.data.damage.thesaurus import OTHERS

TEXT = "The movie was a Terrible mistake, but often funny; the kids liked watching it."


def drawn(seed: int = 0) -> random.Random:
    return random.Random(seed)


@pytest.mark.parametrize("seed", range(40))
def test_a_tenth_of_the_long_words_is_misspelt_inside(seed: int) -> None:
    before, after = TEXT.split(" "), typos(TEXT, drawn(seed)).split(" ")
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) == 1  # of nine
    ((one, other),) = changed
    assert one[0] == other[0]
    assert abs(len(one) - len(other)) <= 1
    letters = (WORD.search(one) or [""])[0], (WORD.search(other) or [""])[0]
    assert letters[0][-1] == letters[1][-1]
    assert len(letters[0]) >= LONG


def test_all_four_errors_are_made() -> None:
    found = {typos("abcdefgh", drawn(seed)) for seed in range(400)}
    kinds = {len(word) - 8 for word in found}
    assert kinds == {-1, 0, 1}
    assert any(sorted(word) == list("abcdefgh") and word != "abcdefgh" for word in found)  # two that changed places
    assert any(set(word) - set("abcdefgh") for word in found)  # a neighbour on the keyboard


def test_neighbours_on_the_keyboard_are_near_and_mutual() -> None:
    assert set(NEIGHBOURS["g"]) == set("ftyhbv")
    assert all(letter in NEIGHBOURS[other] for letter, near in NEIGHBOURS.items() for other in near)


def test_half_of_the_words_with_synonyms_are_replaced_in_the_same_case() -> None:
    after = synonyms(TEXT, drawn())
    pairs = [(one, other) for one, other in zip(WORD.findall(TEXT), WORD.findall(after), strict=True) if one != other]
    known = [word for word in WORD.findall(TEXT) if word.lower() in OTHERS]
    assert len(pairs) == round(len(known) / 2)
    assert all(other.lower() in OTHERS[one.lower()] for one, other in pairs)
    assert all(one.istitle() == other.istitle() for one, other in pairs)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_example_is_always_changed_alike_and_others_differ(change: typos) -> None:  # type: ignore[valid-type]
    texts, names = [(TEXT, TEXT)] * 6, list("abcdef")
    found = damaged(texts, names, change)
    assert damaged(texts[3:], names[3:], change) == found[3:]
    assert len(set(found)) > 1
    assert found[0][0] != TEXT


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@given(text=st.text())
def test_any_text_can_be_changed_and_what_is_no_word_stays(change: typos, text: str) -> None:  # type: ignore[valid-type]
    after = change(text, drawn())  # type: ignore[operator]
    assert WORD.sub("", after) == WORD.sub("", text) or change is synonyms  # some synonyms are hyphenated
    if not any(len(word) >= LONG for word in WORD.findall(text)):
        assert after == text or change is synonyms


def test_synonyms_are_words_of_their_own_and_no_word_is_its_own() -> None:
    assert len(OTHERS) > 200
    for word, others in OTHERS.items():
        assert word == word.lower()
        assert word not in others
        assert len(set(others)) == len(others)

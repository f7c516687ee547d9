import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.cli.texts import paragraphs, split
from xtrace_sdk.errors import InputError

prose = st.text(st.sampled_from("ab cd.\n!? \t"), max_size=400)


@given(prose, st.integers(8, 60))
def test_no_piece_is_too_long_and_nothing_is_lost(text, longest):
    pieces = split(text, longest)
    assert all(0 < len(piece) <= longest for piece in pieces)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)


@given(st.lists(st.sampled_from([" ", ". ", "\n\n", ""]), max_size=60), st.integers(9, 60), st.data())
def test_overlapping_pieces_cover_the_text(separators, longest, data):
    # every place of the text is unlike all others, so that a piece is found where it was cut
    text = "".join(
        f"{chr(0x4E00 + 2 * number)}{chr(0x4E01 + 2 * number)}{separator}"
        for number, separator in enumerate(separators)
    )
    overlap = data.draw(st.integers(0, (longest - 1) // 2))
    end = 0
    for piece in split(text, longest, overlap):
        assert 0 < len(piece) <= longest
        begin = text.index(piece)
        assert end - overlap <= begin or not overlap
        assert not text[end:begin].strip()  # no gap but white space
        end = begin + len(piece)
    assert not text[end:].strip()


def test_short_text_stays_whole():
    assert split(" one. two. ", 100) == ["one. two."]
    assert split(" \n ", 100) == []


def test_paragraphs_come_before_sentences_before_words():
    assert split("First one. Still first.\n\nSecond is here.", 30) == [
        "First one. Still first.",
        "Second is here.",
    ]
    assert split("A sentence here. Another sentence that is long", 30) == [
        "A sentence here.",
        "Another sentence that is long",
    ]
    assert split("many words without any stop at all", 20) == ["many words without", "any stop at all"]
    assert split("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_piece_repeats_the_last_sentence_of_the_one_before():
    first, second = split("Alpha is the first sentence. Beta is next. Gamma comes after that one.", 48, 20)
    assert first == "Alpha is the first sentence. Beta is next."
    assert second == "Beta is next. Gamma comes after that one."


@pytest.mark.parametrize("overlap", [-1, 50, 100])
def test_overlap_of_half_a_piece_or_more_is_refused(overlap):
    with pytest.raises(InputError, match="overlap"):
        split("text", 100, overlap)


def test_paragraphs_take_their_headings_along():
    text = "# Title\n\nA first paragraph of some length.\n \nAnother one, also long enough.\n\nEnd"
    assert paragraphs(text, 20) == [
        "# Title\n\nA first paragraph of some length.",
        "Another one, also long enough.",
        "End",
    ]
    assert paragraphs("one\n\n\n\ntwo") == ["one", "two"]
    assert paragraphs(" \n\n ") == []

"""One vocabulary: what the words of the lists mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from badlist.format import read_bad_list
from lake.errors import SurveyError
from lake.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load()
PAPER = VOCABULARY.of_paper()

CLASSES = [
    "good", "Saturated", "Clouds_transparency", "PSF", "Nonoptimal_exp", "Ghost_scatter",
    "NObjects", "Bad_CCD", "Noise", "Wonky", "Telescope_moving", "Out_of_focus",
]  # fmt: skip

#: Reasons of DES and DELVE (facts, section 1); False: the paper's code leaves the entry out.
REASONS = {
    "Clouds_transparency": {
        "HeavyClouds": True, "HeavyCloud": True, "Heavy Clouds": True, "Clouds": True,
        "CloudPlusBackground": True, "Clouds/High-background": False,
    },
    "NObjects": {"Skysub+NOBJ": True, "NObjects": True, "Sky/NObjects": False},
    "Ghost_scatter": {
        "Ghost/Scatter": True, "Ghosting": True, "Ghost/Scatter R Dor": False,
        "Scattered Light": False, "ghost-scatter": True,
    },
    "PSF": {"BadPSFModel": True, "double/elongated": True, "double": True, "PSF": True},
    "Out_of_focus": {"Out of focus": True, "Out of Focus": True},
    "Noise": {
        "Noise bkpl 1": True, "Noise": True, "readout": True, "Weird readout": True,
        "Bad readout": True, "BAD_READOUT": True, "Readout": True, "BAD_READ": False,
        "Noisy Backplane": False,
    },
    "Telescope_moving": {
        "TelescopeMoving": True, "Telescope moving": True, "Telescope moved": True,
        "Telescope Tracking": True, "No guiding... drifts": True, "Guide fail": True,
        "Guider Failed": False,
    },
    "Saturated": {"Saturated/Shutter": True},
    "Bad_CCD": {"Bad CCD": True, "ccd02": True},
    "Wonky": {"Wonky": True},
    "Fringing": {"Fringing": True},
    "Canopus": {"Canopus": True},
}  # fmt: skip


def test_classes_in_the_papers_order() -> None:
    assert VOCABULARY.training_classes == CLASSES
    assert VOCABULARY.classes == [*CLASSES, "Bad_seeing", "Fringing", "Canopus", "Bad_WCSCAL"]
    assert VOCABULARY.describe("good").number == 0


def test_balancing_follows_the_paper() -> None:
    balance = {
        entry.name: (round(entry.keep, 3), entry.weight)
        for entry in VOCABULARY.table
        if entry.keep < 1
    }
    assert balance == {
        "Clouds_transparency": (0.333, 3.0),
        "Ghost_scatter": (0.5, 2.0),
        "NObjects": (0.75, 1.333),
    }


@pytest.mark.parametrize(
    ("reason", "name", "in_paper"),
    [
        (reason, name, in_paper)
        for name, reasons in REASONS.items()
        for reason, in_paper in reasons.items()
    ],
)
def test_reasons_of_des_and_delve(reason: str, name: str, in_paper: bool) -> None:
    for typed in (reason, f"  {reason.upper()} "):
        assert VOCABULARY.classes_of("delve", typed) == [name]
    assert PAPER.classes_of("delve", reason) == ([name] if in_paper else [])


@given(st.sampled_from(["des", "delve"]), st.text(max_size=12))
def test_a_comment_leaves_the_files_reason_its_class(source: str, comment: str) -> None:
    assert VOCABULARY.classes_of(source, f"noise: {comment}") == ["Noise"]


@pytest.mark.parametrize("reason", ["streak: Airplane", "Dome Light", "", "processing", "Clouds!"])
def test_words_that_map_to_nothing_have_no_class(reason: str) -> None:
    assert VOCABULARY.classes_of("delve", reason) == []
    assert VOCABULARY.is_bad("delve", reason)


@pytest.mark.parametrize(
    ("words", "paper", "project", "bad"),
    [
        ("expfactor=0.208 seeing=1.400", ["Nonoptimal_exp"], ["Nonoptimal_exp"], True),
        ("expfactor=1.264 seeing=2.304", ["Nonoptimal_exp"], ["Nonoptimal_exp"], False),
        ("2 expfactor<0.3 DECaLS_1234", ["Nonoptimal_exp"], ["Nonoptimal_exp"], True),
        ("3 exp factor < 0.3", [], ["Nonoptimal_exp"], True),
        ("3 depth factor <<0.2", [], ["Nonoptimal_exp"], True),
        ("3 exp. factor = 1.2", [], ["Nonoptimal_exp"], False),
        ("1", ["Saturated"], ["Saturated"], True),
        ("1 bright sky", [], ["Saturated"], True),
        ("2", ["Clouds_transparency"], ["Clouds_transparency"], True),
        ("3 bright sky", [], [], False),
        ("3 Lots of Clouds", ["Clouds_transparency"], ["Clouds_transparency"], True),
        ("trailed PSF", ["PSF"], ["PSF"], True),
        ("Out Of Focus", ["Out_of_focus"], ["Out_of_focus"], True),
        ("double image", ["Telescope_moving"], ["Telescope_moving"], True),
        ("3 guiding failed", [], ["Telescope_moving"], True),
        ("expfactor=0.2,seeing=2.50", ["Nonoptimal_exp", "Bad_seeing"],
         ["Nonoptimal_exp", "Bad_seeing"], True),
        ("seeing=2.49 DECaLS_39665_", [], [], False),
        ("seeing>3", ["Bad_seeing"], ["Bad_seeing"], True),
        ("3 bad seeing", ["Bad_seeing"], ["Bad_seeing"], True),
        ("transparency < 0.3 thick clouds, depth factor < 0.2 out of focus",
         ["Clouds_transparency", "Out_of_focus"],
         ["Clouds_transparency", "Nonoptimal_exp", "Out_of_focus"], True),
        ("unknown", [], [], True),
        ("bad N10 amp and very bright star on good amp", [], [], True),
        ("3 bolide", [], [], False),
        ("346", [], [], True),
    ],
)  # fmt: skip
def test_free_text_of_the_decam_list(
    words: str, paper: list[str], project: list[str], bad: bool
) -> None:
    assert PAPER.classes_of("decals", words) == paper
    assert VOCABULARY.classes_of("decals", words) == project
    assert VOCABULARY.is_bad("decals", words) is bad


@given(st.text(max_size=40))
def test_any_words_have_an_answer(words: str) -> None:
    for source in ("decals", "des", "delve", "inspection", "another"):
        classes = VOCABULARY.classes_of(source, words)
        assert set(classes) <= set(VOCABULARY.classes)
        assert VOCABULARY.classes_of(source, f" {words.swapcase()} ") in (
            classes,
            VOCABULARY.classes_of(source, words.swapcase()),
        )
        assert VOCABULARY.is_bad(source, words) in (True, False)


def test_the_papers_count_of_the_real_list_is_nearly_met(shared_data: Path) -> None:
    path = shared_data / "legacypipe" / "decam-bad_expid.2024-08-28.txt"
    keys = read_bad_list(path).keys()
    # The paper counts 3,014 bad exposures; read without the flags that most lines lack, 818.
    assert sum(VOCABULARY.is_bad("decals", reason) for reason in keys.values()) == 3018
    counts = Counter(
        name for reason in keys.values() for name in PAPER.classes_of("decals", reason)
    )
    assert counts == {
        "Nonoptimal_exp": 2196,
        "Bad_seeing": 602,
        "Clouds_transparency": 220,
        "PSF": 61,
        "Saturated": 54,
        "Out_of_focus": 39,
        "Telescope_moving": 18,
    }


def test_of_several_classes_the_first_by_precedence_stands() -> None:
    assert VOCABULARY.first(["Nonoptimal_exp", "Clouds_transparency"]) == "Clouds_transparency"
    assert VOCABULARY.first(["good", "Bad_seeing"]) == "Bad_seeing"
    assert VOCABULARY.first([]) is None
    assert sorted(VOCABULARY.precedence) == sorted(VOCABULARY.classes)


def test_a_users_file_extends_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
[[class]]
name = "Noise"
project = ["Hum"]
[[class]]
name = "Dome_light"
training = false
project = ["Dome Light"]
[[rule]]
class = "Dome_light"
sources = ["decals"]
pattern = "ring lights"
[[verdict]]
sources = ["decals"]
pattern = "bolide"
bad = true
"""
    )
    mine = Vocabulary.load(path)
    assert mine.classes_of("delve", "hum") == ["Noise"]
    assert mine.classes_of("delve", "noise") == ["Noise"]
    assert mine.classes_of("delve", "Dome Light") == ["Dome_light"]
    assert mine.classes_of("decals", "3 Ring lights on") == ["Dome_light"]
    assert mine.is_bad("decals", "3 bolide")
    assert mine.classes[-1] == "Dome_light"
    assert mine.precedence[-1] == "good"
    assert mine.to_json() != VOCABULARY.to_json()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = [", "not a vocabulary"),
        ("[[klass]]\nname = 'a'", "no such table: klass"),
        ("[[class]]\nmeaning = 'a'", "a class needs a name"),
        ("[[class]]\nname = 'a'\ncolour = 'red'", "no such entry 'colour'"),
        ("[[class]]\nname = 'a'\nkeep = 'all'", "keep cannot be 'all'"),
        ("[[class]]\nname = 'a'\npaper = 'word'", "paper is a list of words"),
        ("[[rule]]\nsources = ['des']\npattern = 'x'\nclass = 'None'", "no class 'None'"),
        ("[[rule]]\nsources = ['des']\npattern = '('\nclass = 'PSF'", "rule 1: pattern '\\('"),
        ("[[rule]]\nsources = ['des']\nclass = 'PSF'", "pattern is missing"),
        ("[[rule]]\nsources = ['des']\npattern = 'x'\nclass = 'PSF'\nbelow = 1.0", "captures"),
        ("[[verdict]]\nsources = ['des']\npattern = 'x'\nbad = 'yes'", "bad cannot be 'yes'"),
        ("[[verdict]]\nsources = 'des'\npattern = 'x'\nbad = true", "sources is a list"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SurveyError, match=what):
        Vocabulary.load(path)

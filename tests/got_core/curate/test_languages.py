"""Languages of texts: what is told apart, and what counts as right because it cannot be."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from got_core.curate.languages import foreign

FOREIGN = {
    "de": ["Ein roter Kreis links von einem blauen Quadrat", "Zwei Hunde laufen am Strand entlang."],
    "fr": ["Un cercle rouge à gauche d'un carré bleu", "Deux chiens courent sur la plage."],
    "es": ["Un círculo rojo a la izquierda de un cuadrado azul", "Dos perros corren por la playa."],
    "it": ["Un cerchio rosso a sinistra di un quadrato blu", "Due cani corrono sulla spiaggia."],
    "nl": ["Een rode cirkel links van een blauw vierkant", "Twee honden rennen op het strand."],
    "pt": ["Um círculo vermelho à esquerda de um quadrado azul"],
    "pl": ["Czerwone koło po lewej stronie niebieskiego kwadratu", "Dwa psy biegną po plaży."],
    "tr": ["Mavi bir karenin solunda büyük bir daire", "İki köpek sahilde koşuyor."],
    "id": ["Lingkaran merah di sebelah kiri persegi biru", "Dua anjing berlari di pantai."],
    "vi": ["Một hình tròn màu đỏ bên trái hình vuông màu xanh"],
    "fi": ["Punainen ympyrä sinisen neliön vasemmalla puolella"],
    "hu": ["Piros kör a kék négyzet bal oldalán"],
    "ru": ["Красный круг слева от синего квадрата", "кот"],
    "zh": ["蓝色方块左边的红色圆圈"],
    "ar": ["دائرة حمراء على يسار مربع أزرق"],
}
ENGLISH = """a red circle left of a blue square|dog|blue square|Two dogs run on the beach.|red, green, blue
large purple star inside small cyan ring|remove the lamp|turn banana into mango|add a sombrero
A man.|croissant
a plate of spaghetti alla carbonara|tagliatelle al ragù on a plate|two croissants and a café au lait
São Paulo skyline at dusk|a gondola in Venezia at sunset|el camino de santiago hikers|Pikachu and Mario
a statue of Don Quijote and Sancho Panza in Madrid|a Volkswagen Golf in Berlin|papaya, guava, avocado, banana
a poster with the words "La vida es bella"|The book cover reads 'Cien años de soledad'
1girl, kimono, hakama, geisha, sakura, torii, katana, samurai|macro shot, 85mm, f/1.8, bokeh
matcha latte, mochi, dango|<lora:detail:0.8> masterpiece, best quality, 1girl|asdf qwer zxcv hjkl uiop
{"object": "cup", "color": "red"}|def draw_circle(x, y, r): return None|SELECT image FROM table WHERE id = 3
img_0231.jpg||12 34 56
https://example.org/images/cat.png|x1=12, y1=30, x2=55, y2=80|--ar 16:9 --v 5 --style raw"""


def verdicts(texts: list[str], *languages: str) -> list[str]:
    return [texts[row] for row, _ in foreign(pl.Series(texts, dtype=pl.String), languages)]


@pytest.mark.parametrize("language", FOREIGN)
def test_sentences_of_other_languages_are_found(language: str) -> None:
    assert verdicts(FOREIGN[language], "en") == FOREIGN[language]
    assert verdicts(FOREIGN[language], language) == []
    assert verdicts(FOREIGN[language], "en", language) == []


@pytest.mark.parametrize("line", ENGLISH.splitlines())
def test_phrases_names_tags_and_code_count_as_right(line: str) -> None:
    assert verdicts(line.split("|"), "en") == []


def test_english_is_foreign_where_it_is_not_wanted() -> None:
    text = "A small dog is running on the beach beside a woman with an umbrella."
    assert verdicts([text, *FOREIGN["de"]], "de") == [text]
    assert foreign(pl.Series([None, text], dtype=pl.String), ("zh",))[0][0] == 1


def test_a_language_that_is_not_known_is_one_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match=r"unknown language 'english'; there are ace, af, .*en, .*zu"):
        foreign(pl.Series(["a"]), ("english",))
    with pytest.raises(ValueError, match="none is named"):
        foreign(pl.Series(["a"]), ())


def test_a_text_has_one_verdict_in_every_process() -> None:
    code = (
        "import polars as pl; from got_core.curate.languages import foreign; "
        f"print(foreign(pl.Series({FOREIGN['tr'] + FOREIGN['pl']!r}), ('en',)))"
    )
    ends = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(2)]
    assert ends[0].stdout == ends[1].stdout and ends[0].stdout.count(b"reads like") == 4

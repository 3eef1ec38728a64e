"""Registries: being there is the registration, and every mistake is named."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.cards import BACKBONES, METHODS, TASKS
from harness.errors import UserError, did_you_mean
from harness.registry import Card, Registry

CARD = """
from harness.registry import Card, Config
class C(Config):
    size: int = 1
CARD = Card(name={name!r}, summary="s", source="x", config=C, presets={{"big": {{"size": 9}}}},
            implementation={implementation!r})
"""
Add = Callable[..., None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package without entries; its name is new in every test."""
    name = f"entries_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("class Base: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return name


@pytest.fixture
def add(package: str, tmp_path: Path) -> Add:
    """Write one entry of ``package``."""

    def write(name: str, *, card: str | None = None, code: str | None = None) -> None:
        folder = tmp_path / package / name
        folder.mkdir()
        text = CARD.format(name=name, implementation=f"{package}.{name}.model:Thing")
        (folder / "__init__.py").write_text(text if card is None else card)
        default = f"from {package} import Base\nclass Thing(Base): ...\n"
        (folder / "model.py").write_text(default if code is None else code)

    return write


@pytest.fixture
def registry(package: str) -> Registry[Card]:
    return Registry("thing", package, "metl.things", Card, "model.py", f"{package}:Base")


def points(monkeypatch: pytest.MonkeyPatch, *pairs: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, "metl.things") for name, value in pairs]
    monkeypatch.setattr("harness.registry.entry_points", lambda group: found)


def test_a_folder_is_found_and_loaded_by_its_name(registry: Registry[Card], add: Add) -> None:
    add("second")
    add("first")
    assert registry.names() == ["first", "second"]
    assert "first" in registry
    assert "third" not in registry
    assert registry.load("first").__name__ == "Thing"


def test_a_folder_without_code_is_no_entry(
    registry: Registry[Card], add: Add, package: str, tmp_path: Path
) -> None:
    add("first")
    (tmp_path / package / "first" / "model.py").unlink()
    assert registry.names() == []


def test_listing_imports_no_code(registry: Registry[Card], add: Add) -> None:
    add("first", code="raise AssertionError('imported')")
    assert registry.card("first").name == "first"


def test_entry_points_add_entries(
    registry: Registry[Card],
    add: Add,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    add("here")
    card = CARD.format(name="there", implementation=f"{package}.here.model:Thing")
    (tmp_path / f"{package}_there.py").write_text(card)
    points(monkeypatch, ("there", f"{package}_there"))
    assert registry.names() == ["here", "there"]
    assert registry.load("there").__name__ == "Thing"


def test_one_name_twice_is_refused(
    registry: Registry[Card], add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("here")
    points(monkeypatch, ("here", "elsewhere"))
    with pytest.raises(UserError, match="Two things are registered as 'here'"):
        registry.names()


def test_an_unknown_name_names_the_nearest(registry: Registry[Card], add: Add) -> None:
    add("adapter")
    with pytest.raises(UserError, match=r"Unknown thing 'adaptor'\. Did you mean 'adapter'\?"):
        registry.card("adaptor")


def test_presets_stand_behind_the_name(registry: Registry[Card], add: Add) -> None:
    add("first")
    assert registry.choose("first").values == {}
    assert registry.choose("first@big").values == {"size": 9}
    for text in ("first@bigg", "first@"):
        with pytest.raises(UserError, match="Unknown preset"):
            registry.choose(text)


ALIASED = CARD.replace("config=C", "config=C, aliases={{{aliases}}}")


def test_an_alias_stands_for_a_preset(registry: Registry[Card], add: Add) -> None:
    add("first", card=ALIASED.format(name="first", implementation="a:b", aliases="'one': 'big'"))
    chosen = registry.choose("one")
    assert chosen == registry.choose("first@big")
    assert chosen.label == "one"
    assert registry.choose("first").label == "first"
    assert "one" in registry
    assert registry.names() == ["first"]
    with pytest.raises(UserError, match=r"Unknown thing 'ome'\. Did you mean 'one'\?"):
        registry.choose("ome")


def test_a_refused_name_says_why_and_what_there_is(registry: Registry[Card], add: Add) -> None:
    card = ALIASED.replace("config=C", "config=C, refused={{'two': 'it is no thing'}}")
    add("first", card=card.format(name="first", implementation="a:b", aliases="'one': 'big'"))
    with pytest.raises(UserError) as caught:
        registry.choose("two")
    assert str(caught.value) == "Thing 'two' cannot be used: it is no thing. Choose one of one."
    assert "two" not in registry


def test_an_alias_that_is_a_name_is_refused(registry: Registry[Card], add: Add) -> None:
    add("first", card=ALIASED.format(name="first", implementation="a:b", aliases="'second': 'big'"))
    add("second")
    with pytest.raises(UserError, match="Two things are called 'second'"):
        registry.choose("other")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("", "must define CARD"),
        ("CARD = 3", "found int"),
        (CARD.format(name="other", implementation="a:b"), "names itself 'other'"),
    ],
)
def test_a_wrong_card_is_named(
    card: str, expected: str, registry: Registry[Card], add: Add
) -> None:
    add("first", card=card)
    with pytest.raises(UserError, match=expected):
        registry.card("first")


@pytest.mark.parametrize("code", ["class Thing: ...\n", "Thing = 3\n"])
def test_an_implementation_of_another_kind_is_refused(
    code: str, registry: Registry[Card], add: Add
) -> None:
    add("first", code=code)
    with pytest.raises(UserError, match="must be a subclass of"):
        registry.load("first")


@pytest.mark.parametrize("registry", [METHODS, TASKS, BACKBONES], ids=lambda r: r.kind)
def test_every_registered_entry_loads(registry: Registry[Card]) -> None:
    for name in registry.names():
        assert registry.card(name).name == name
        registry.load(name)


def test_did_you_mean_offers_the_nearest_or_all() -> None:
    assert did_you_mean("unipr", ["unipt", "lst"]) == " Did you mean 'unipt'?"
    assert did_you_mean("zzz", ["unipt", "lst"]) == " Known: lst, unipt."
    assert did_you_mean("zzz", []) == ""

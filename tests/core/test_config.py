"Presets: changes are fitted or refused, and JSON gives back what went in."
import json
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from ccvs.core.config import from_dict, override, pick, show_presets, to_dict


@dataclass(frozen=True)
class Inner:
    width: int = 8
    names: tuple[str, ...] = ('a',)


@dataclass(frozen=True)
class Outer:
    steps: int = 10
    lr: float = 1e-3
    blur: bool = False
    size: tuple[int, int] = (64, 64)
    end: int | None = None
    scale: int | float = 1
    title: str = 'x'
    pairs: tuple[tuple[int, int], ...] = ()
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()


@pytest.mark.parametrize('name, given, expected', [
    ('lr', '1e-4', 1e-4), ('lr', 2, 2.0), ('steps', '1e3', 1000), ('steps', 20.0, 20), ('steps', '-3', -3),
    ('steps', '12345678901234567', 12345678901234567), ('blur', 'True', True), ('blur', False, False),
    ('size', [32, '48'], (32, 48)), ('end', None, None), ('end', '7', 7), ('scale', 2, 2), ('scale', 0.5, 0.5),
    ('pairs', [[1, 2], [3, 4]], ((1, 2), (3, 4))), ('inner', dict(width='3'), Inner(3)),
    ('inners', [dict(width=1), Inner(2)], (Inner(1), Inner(2))),
])
def test_values_are_fitted(name, given, expected):
    found = getattr(override(Outer(), **{name: given}), name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize('changes, words', [
    (dict(step=1), 'no field step; known fields: steps, lr'), (dict(inner=dict(wide=1)), 'Inner has no field wide'),
    (dict(steps=1.5), r'Outer.steps needs int, found 1.5'), (dict(steps=True), 'Outer.steps'), (dict(steps='ten'), 'Outer.steps'),
    (dict(blur=1), 'Outer.blur'), (dict(blur='maybe'), 'Outer.blur'), (dict(size=[1]), 'needs 2 items'), (dict(size='64'), 'Outer.size'),
    (dict(title=3), 'Outer.title'), (dict(lr=None), 'Outer.lr'), (dict(inner=3), 'Outer.inner'), (dict(end='soon'), 'Outer.end'),
    (dict(steps=float('inf')), 'Outer.steps'),
])
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError, match=words): override(Outer(), **changes)


def test_override_copies():
    base = Outer()
    changed = override(base, inner=dict(width=3), steps=2)
    assert changed.inner == Inner(3) and changed.inner.names == ('a',) and base == Outer()
    with pytest.raises(FrozenInstanceError): changed.steps = 3


def test_json_round_trip():
    cfg = Outer(size=(3, 4), end=5, pairs=((1, 2),), inner=Inner(2, ('p', 'q')), inners=(Inner(1),), lr=1 / 3)
    assert from_dict(Outer, json.loads(json.dumps(to_dict(cfg)))) == cfg
    assert from_dict(Outer, {}) == Outer()


def test_dicts_that_do_not_fit():
    with pytest.raises(ValueError, match='no field colour'): from_dict(Outer, dict(colour=1))

    @dataclass(frozen=True)
    class Needs: depth: int
    with pytest.raises(ValueError, match='depth'): from_dict(Needs, {})

    @dataclass(frozen=True)
    class Odd: thing: object = field(default_factory=object)
    with pytest.raises(TypeError, match='Odd.thing'): to_dict(Odd())


def test_presets_as_a_table():
    table = show_presets(dict(small=Outer(steps=1), large=Outer(inner=Inner(64))))
    assert list(table.index) == ['small', 'large'] and table.loc['large', 'inner.width'] == 64
    assert table.loc['small', 'steps'] == 1 and table.loc['small', 'size'] == (64, 64)


def test_a_name_that_is_no_row_is_one_sentence_with_the_rows_and_the_nearest():
    table = dict(tiny=Outer(), worlds64=Outer(steps=3))
    assert pick(table, 'worlds64').steps == 3
    with pytest.raises(ValueError, match=r"^there is no preset 'tinny', did you mean tiny; choose one of tiny, worlds64$"):
        pick(table, 'tinny')
    with pytest.raises(ValueError, match=r"^there is no world 'mars'; choose one of tiny, worlds64$"):
        pick(table, 'mars', 'world')

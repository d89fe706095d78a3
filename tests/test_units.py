"""How counts are written."""

import pytest

from wkdc.system.units import counted


@pytest.mark.parametrize(
    ("count", "forms", "said"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (1234567, ("step",), "1234567 steps"),
        (1, ("copy", "copies"), "1 copy"),
        (2, ("copy", "copies"), "2 copies"),
        (1.0, ("minute",), "1 minute"),
        (2.5, ("minute",), "2.5 minutes"),
    ],
)
def test_one_of_a_thing_is_singular(count: float, forms: tuple[str, ...], said: str) -> None:
    assert counted(count, *forms) == said

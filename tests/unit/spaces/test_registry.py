"""`spaces.load`, `names` and `from_spec`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from collm_nas import spaces
from collm_nas.api import UserError


def test_names_come_from_the_files():
    assert "nasbench201" in spaces.names()
    assert not {"base", "grammar", "definition", "yaml-space", "nasbench201-network"} & set(spaces.names())


@pytest.mark.parametrize("wrong", ["nasbench-201", "nasbench101", "NasBench201", ""])
def test_unknown_space_lists_the_legal_names(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown space.*nasbench201") as error:
        spaces.load(wrong)
    if wrong:
        assert "did you mean 'nasbench201'" in str(error.value)


def test_unknown_option_names_the_legal_ones():
    with pytest.raises(UserError, match="no option 'data'; its options: dataset"):
        spaces.load("nasbench201", data="cifar10")


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet16-120"])
def test_a_built_in_space_comes_back_from_its_spec(dataset):
    space = spaces.load("nasbench201", dataset=dataset)
    again = spaces.from_spec(json.loads(json.dumps(space.spec())))
    assert type(again) is type(space)
    assert again.dataset == dataset
    assert again.digest() == space.digest()


def test_a_space_that_changed_since_is_rebuilt_from_its_spec():
    """A journal outlives the code: what it recorded wins over the built-in space of the same name."""
    spec = json.loads(json.dumps(spaces.load("nasbench201").spec()))
    spec["variables"][0]["choices"] = spec["variables"][0]["choices"][:3]
    spec["options"]["resolution"] = 16
    again = spaces.from_spec(spec)
    assert again.size == 3 * 5**5
    assert again.format(next(again.all())).startswith("|none~0|+")


def test_names_with_options_in_one_file():
    text = "NAMES: dict = {'a': {}, 'a-wide': {'width': 1.2}}\ndef create(width=1.0):\n    pass\n"
    assert spaces._names_in("\n" + text, "x") == {"a": {}, "a-wide": {"width": 1.2}}
    assert spaces._names_in("\ndef create(): pass", "x") == {"x": {}}


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from collm_nas import spaces; spaces.names();"
        "print([m for m in ('torch', 'numpy', 'pandas', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

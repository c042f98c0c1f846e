"""The overview of the package's modules is complete."""

import re
from collections import Counter
from pathlib import Path

from heimdall_pipelines import store


def test_the_overview_names_every_module_once():
    folder = Path(store.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"} | {"migrations"}
    named = Counter(re.findall(r"``(\w+)``", store.__doc__ or ""))
    assert named == Counter(modules)

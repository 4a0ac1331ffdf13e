"""A plugin of pytest for the tests that come with an official client: those that cannot pass here must fail.

A file, which the variable OWN_TESTS names, has a line for each of them: `FILE::TEST: reason`, with the wildcards of shells, and behind a test's name `(ID)` where only one form of it is meant. A
test in it that passes is a failure as well, and so is a line without a test, so that the list stays true.
"""

import fnmatch
import os
from pathlib import Path

import pytest


def read(path):
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return [line.split(": ", 1) for line in lines if line and not line.startswith("#")]


def pytest_collection_modifyitems(config, items):
    files = {item.path for item in items}
    for pattern, reason in read(os.environ["OWN_TESTS"]):
        of_file = pattern.split("::")[0]
        found = [item for item in items if any(fnmatch.fnmatchcase(it, pattern) for it in names(config, item))]
        if not found and any(relative(config, path) == of_file for path in files):
            raise pytest.UsageError(f"no test is called {pattern}, of which it is known that it cannot pass")
        for item in found:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def relative(config, path):
    return path.relative_to(config.rootpath).as_posix()


def names(config, item):
    """A test's name, and the same with the form in which it is run."""
    name = f"{relative(config, item.path)}::{getattr(item, 'originalname', item.name)}"
    form = getattr(item, "callspec", None)
    return [name, f"{name}({form.id})"] if form else [name]

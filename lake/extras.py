"""Libraries that one feature needs: they are installed with an extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lake.errors import NotFound


def import_extra(module: str, extra: str, feature: str) -> ModuleType:
    """Return a module that `feature` needs; raise `SurveyError` where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise NotFound(
            f"{feature} needs {package}, which is not installed: pip install 'survey-qa[{extra}]'"
        ) from error

"""The methods of the comparison, one file each. Adding a method: one file here with a class `METHOD`, one config, one test."""

import importlib
import pkgutil

from ..errors import UserError
from .base import Method


def names():
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in ("base", "schedules"))


def get_method(run) -> Method:
    if run.method not in names():
        raise UserError(f"method = {run.method!r}: must be one of {', '.join(names())}")
    return importlib.import_module(f".{run.method}", __name__).METHOD(run)

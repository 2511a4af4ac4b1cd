"""The delivery hook: the merchant's own file if there is one, otherwise the default that LNPay ships."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import lnpay
from lnpay.domain.errors import HookUnusable
from lnpay.domain.model import Event
from lnpay.domain.settings import HookFiles

Deliver = Callable[[Event], None]

SHIPPED_DIGESTS = frozenset(
    {
        "0196451c0b562551bb50df59d826c78712398198c0e9424300de6a18f07d7abc",  # 0.1.0
        "806f0db38b73b4046f0b169e46ca59cca7c18c1b4ce3774b2c26394b1db250a7",
        "7b5128eaec393e06aa83a8bf660ad568c212183edc745bfd78fa120b3ff5e1fc",
        "ba96063de04a98408a32047eb47ca8238e5690595e8b093a516da9c5895cf147",
    }
)
"""SHA-256 of every default ever shipped, with `\\n` line ends. Add to it when config/delivery.py changes."""

FORMER_NAMES: Final = {
    "errors": "lnpay.domain.errors",
    "model": "lnpay.domain.model",
    "outgoing": "lnpay.http.outgoing",
    "shop_answer": "lnpay.deliveries.shop_answer",
}
"""Former module names that older default hooks import, and so do the hooks copied from them."""


def hook_in_use(files: HookFiles) -> Path:
    """The file whose `deliver` is called."""
    try:
        # Not exists(): a dangling link or an unreadable folder must not silently fall back to the default.
        files.own.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return files.shipped
    except OSError:
        pass
    return files.own


def is_shipped_changed(files: HookFiles) -> bool:
    """Whether the default was edited in place. The next upgrade would overwrite it."""
    return not _is_a_default(files.shipped)


def is_own_a_default(files: HookFiles) -> bool:
    """Whether the merchant's file is an unchanged copy of some default."""
    return hook_in_use(files) == files.own and _is_a_default(files.own)


def load_deliver(files: HookFiles) -> Deliver:
    """Load `deliver` from the hook in use. Raises HookUnusable, which names the line to fix."""
    path = hook_in_use(files)
    deliver = getattr(_load(path), "deliver", None)
    if not callable(deliver):
        raise HookUnusable(f"{path} has no function deliver(event): see config/delivery.py for an example")
    checked: Deliver = deliver
    return checked


def _load(path: Path) -> ModuleType:
    _keep_former_names()
    spec = importlib.util.spec_from_file_location("lnpay_delivery_hook", path)
    # Only a name that does not end in .py has no loader.
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    # The hook is the merchant's own code: it may raise anything, even sys.exit().
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise HookUnusable(f"{path} cannot be loaded: {_reason(error, path)}") from error
    return module


def _keep_former_names() -> None:
    """Let a hook import modules by the names they had when the hook was written."""
    for former, today in FORMER_NAMES.items():
        module = importlib.import_module(today)
        # Both, since `from lnpay.errors import ...` asks the first and `import lnpay.errors` the second.
        sys.modules[f"lnpay.{former}"] = module
        setattr(lnpay, former, module)


def _reason(error: BaseException, path: Path) -> str:
    """What is wrong and where, without values, because an exception's text may quote a secret."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
    words = type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        words = f"the module {error.name} is not installed"
    elif isinstance(error, OSError) and error.strerror:
        words = error.strerror
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: {words}" if lines else words


def _is_a_default(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() in SHIPPED_DIGESTS

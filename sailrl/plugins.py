"""Resolves ``"module:Name"`` or ``"path/to/file.py:Name"`` to an object. The only way user code enters sailrl."""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sailrl.errors import ConfigError
from sailrl.foreign import as_reward, library_of

IMPORT_LIMIT_S = 60.0
"""Longest time that a plug-in may take to be imported."""
ALIAS = "sailrl_plugin:"
"""Begins the module name of every plug-in that was named by its file."""


def load(spec: str, *, limit_s: float = IMPORT_LIMIT_S) -> Any:
    """Returns the object named by ``spec``: ``rewards.boxed:BoxedAnswer`` or ``./my_reward.py:MyReward``.

    Raises:
        ConfigError: the spec has no colon, the module does not import within ``limit_s`` seconds (its error is quoted),
            or it has no such name (the nearest ones are listed).
    """
    module_name, colon, name = spec.rpartition(":")
    if not colon or not module_name or not name.isidentifier():
        raise ConfigError(
            f"plug-in {spec!r} is not of the form 'module:Name' or 'file.py:Name'. "
            "Write for example 'rewards.boxed:BoxedAnswer' or 'my_reward.py:MyReward'."
        )
    module = _module(module_name, spec, limit_s)
    try:
        return getattr(module, name)
    except AttributeError:
        public = sorted(n for n, v in vars(module).items() if not n.startswith("_") and callable(v))
        near = difflib.get_close_matches(name, public, n=3, cutoff=0.4) or public[:8]
        raise ConfigError(
            f"plug-in {spec!r}: {module_name} has no {name!r}. It offers: {', '.join(near) or 'nothing callable'}."
        ) from None


def build(spec: str, args: dict[str, Any] | None = None) -> Any:
    """Loads ``spec`` and calls it with ``args``; a failure of the constructor is a ConfigError that quotes it."""
    factory = load(spec)
    try:
        return factory(**(args or {}))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in (args or {}).items())
        raise ConfigError(
            f"plug-in {spec!r} could not be built with ({given}): {type(error).__name__}: {error}"
        ) from error


def build_callable(spec: str, args: Mapping[str, Any] | None = None) -> Any:
    """What ``spec`` names, ready to be called: a function with ``args`` bound, or what a class makes of them.

    Raises:
        ConfigError: it does not load, cannot be built, or cannot be called.
    """
    loaded = load(spec)
    if inspect.isfunction(loaded):
        return functools.partial(loaded, **args) if args else loaded
    made = build(spec, dict(args or {}))
    if not callable(made):
        raise ConfigError(f"plug-in {spec!r} makes a {type(made).__name__}, which cannot be called; add __call__.")
    return made


def build_reward(spec: str, args: Mapping[str, Any] | None = None) -> Any:
    """A reward, see ``sailrl.types.Reward``; one that was written for TRL, verl or verifiers is called as there.

    Raises:
        ConfigError: it does not load, cannot be built, or cannot be called as ``reward(response, problem)``.
    """
    reward = build_callable(spec, args)
    try:
        signature = inspect.signature(reward)
    except (TypeError, ValueError):  # some built-in callables have none
        return reward
    if library_of(signature):
        return as_reward(reward, signature, f"reward {spec!r}")
    try:
        signature.bind("response", "problem")
    except TypeError as error:
        raise ConfigError(
            f"reward {spec!r} takes {signature}, but a reward is called with one response and its problem: {error}. "
            "Write `def __call__(self, response, problem)`, or `def score(response, problem)`; give other arguments a "
            "default, or a value under `args`."
        ) from None
    return reward


def code_digest(spec: str) -> str:
    """64 hex digits of the code behind ``spec``: another value means that it may now do something else.

    It covers the file of the object, and of its package (of a single file: its folder) all that this file imports or
    names as a plug-in, directly or through others. Installed libraries are left out.
    """
    whole = hashlib.sha256()
    for file in sources(spec):
        whole.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def sources(spec: str) -> list[Path]:
    """The files that ``code_digest`` covers, in a fixed order; none for an object without Python code."""
    module = sys.modules[getattr(load(spec), "__module__", None) or spec.rpartition(":")[0]]
    found = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    if found is None:
        return []
    pending, done = [Path(found).resolve()], set[Path]()
    while pending:
        file = pending.pop()
        if file not in done:
            done.add(file)
            pending.extend(_named_files(file))
    return sorted(done)


_SHARED = ("rewards", "data_filters")
"""Packages of ours that plug-ins build upon."""
_PLUG_IN = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+):\w+")


def _named_files(file: Path) -> Iterator[Path]:
    """The files of the same package or folder, and of ours, that ``file`` imports or names as a plug-in in a text."""
    root = _root(file)
    package = file.relative_to(root).parts[:-1]
    yield from _files_of(root, package)
    installed = root.name in ("site-packages", "dist-packages")  # what lies there does not belong to one another
    for name in _names(ast.parse(file.read_bytes()), package):
        parts = name.split(".")
        if parts[0] in _SHARED:
            spec = importlib.util.find_spec(parts[0])
            if spec is not None and spec.origin is not None:
                yield from _files_of(_root(Path(spec.origin)), parts)
        elif parts[0] == package[0] if package else not installed:
            yield from _files_of(root, parts)


def _root(file: Path) -> Path:
    """The folder from which the module in ``file`` is imported."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of what a module of ``package`` imports; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            stem = ".".join([*above, *filter(None, [node.module])])
            yield from (stem, *(f"{stem}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and (named := _PLUG_IN.fullmatch(str(node.value))):
            yield named[1]


def _files_of(root: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files that importing a module runs: it, and the packages it is in."""
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


def _module(name: str, spec: str, limit_s: float) -> ModuleType:
    if not name.endswith(".py"):
        try:
            with _importing(f"plug-in {spec!r}: module {name!r}", limit_s):
                return importlib.import_module(name)
        except ConfigError as error:
            raise ConfigError(f"{error} For a file of your own, give its path: 'my_reward.py:MyReward'.") from error
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"plug-in {spec!r}: there is no file {path}. Paths are relative to the folder you run from.")
    # One stable module name per file: loading it twice gives the same classes, in every process.
    alias = f"{ALIAS}{path}"
    if alias in sys.modules:
        return sys.modules[alias]
    content = path.read_bytes()
    if alias in _broken and _broken[alias][0] == content:  # what hung or ended Python once is not tried again
        raise _broken[alias][1]
    module_spec = importlib.util.spec_from_file_location(alias, path)
    assert module_spec is not None  # a .py path always has a spec and a loader
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[alias] = module
    try:
        with _importing(f"plug-in {spec!r}: {path}", limit_s):
            module_spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[alias]
        if isinstance(error, ConfigError):
            _broken[alias] = content, error
        raise
    return module


_broken: dict[str, tuple[bytes, ConfigError]] = {}
"""Files that did not import: what was in them, and the error."""


class _StillImporting(BaseException):
    """Not an ``Exception``, so that a module's own handlers do not keep it."""


@contextmanager
def _importing(what: str, limit_s: float) -> Iterator[None]:
    """Turns whatever an import does but succeed into a ConfigError that begins with ``what``. In the main thread, where
    signals arrive, it may take ``limit_s`` seconds."""
    timed = threading.current_thread() is threading.main_thread()
    if timed:
        handler, timer = signal.signal(signal.SIGALRM, _still_importing), signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    except KeyboardInterrupt:
        raise
    except _StillImporting as late:
        raise ConfigError(
            f"{what} is still being imported after {limit_s:g} s{_place(late)}. Do slow work in `__init__` or "
            "`warm_up`, not when the file is read."
        ) from late
    except SystemExit as error:
        raise ConfigError(f"{what} ends the program on import: sys.exit({error.code!r}){_place(error)}.") from error
    except BaseException as error:
        raise ConfigError(f"{what} fails on import: {type(error).__name__}: {error}{_place(error)}.") from error
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)


def _still_importing(*_: object) -> None:
    raise _StillImporting


def _place(error: BaseException) -> str:
    """The innermost line of an import that is neither ours nor the import system's."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        f for f in frames if f.filename != __file__ and not f.filename.startswith("<") and "importlib" not in f.filename
    ]
    return f" ({outside[-1].filename}:{outside[-1].lineno})" if outside else ""

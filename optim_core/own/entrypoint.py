"""From an entry point to the object it names: a file or a module of the person's is imported, once for each study."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from optim_core.own import live
from optim_core.own import user_code as theirs
from optim_core.own.user_code import UserCodeError, is_theirs, user_code
from optim_core.spec.entrypoints import parse_entrypoint
from optim_core.spec.names import did_you_mean


class _Loader(SourceFileLoader):
    """Reads the source itself: stored bytecode counts in whole seconds and would hide a change made in the same one."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class UserModules:
    """The modules of one study that are the person's. A new one imports what lies in their folders again: it may have changed
    since. Installed packages stay: few can be imported twice.

    ``roots``: the folders in which lines of code are theirs.
    """

    # What the last study imported, by name, and the folders it looked in.
    _last: dict[str, ModuleType] = {}
    _paths: list[str] = []

    def __init__(self) -> None:
        self.roots = theirs.roots
        self.roots.clear()
        self._folders: list[Path] = []
        self._files: dict[Path, ModuleType] = {}
        self._installed: dict[str, ModuleType] = {}
        for name, module in self._last.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        self._last.clear()
        sys.path[:] = [path for path in sys.path if path not in self._paths]
        self._paths.clear()

    def load(self, entrypoint: str, folder: str | None = None) -> Any:
        """What ``entrypoint`` names. ``folder``: where a file's name starts, and where modules are looked for first.

        The folder of a file stays on ``sys.path``, as when Python runs the file. Raises UserCodeError.
        """
        place, name = parse_entrypoint(entrypoint)
        base = Path(folder or Path.cwd())
        before = dict(sys.modules)
        try:
            if place.endswith(".py"):
                module = self._file(base / place)
            else:
                module = self._module(place, None if folder is None else base)
        finally:
            self._remember(before)
        try:
            with user_code(entrypoint):
                return getattr(module, name)
        except UserCodeError as error:
            if not isinstance(error.__cause__, AttributeError):
                raise
            known = [one for one in vars(module) if not one.startswith("_")]
            raise UserCodeError(f"{place} defines no {name!r}{did_you_mean(name, known)}", trace=error.trace) from None

    @property
    def modules(self) -> list[ModuleType]:
        """All modules in their folders that were imported so far, and the installed ones that were named; by name."""
        return [module for _, module in sorted({**self._installed, **self._last}.items())]

    def _file(self, path: Path) -> ModuleType:
        path = path.expanduser().resolve()
        if path in self._files:
            return self._files[path]
        if not path.is_file():
            raise UserCodeError(f"there is no file {path.name!r} in {path.parent}", code="file_missing")
        self._look_in(path.parent)
        if package := _in_package(path):
            # So that ``from .layers import …`` finds its neighbours.
            self._files[path] = self._module(*package)
            return self._files[path]
        # As Python itself would call it, unless something else has that name: theirs may be called like one of ours.
        known = sys.modules.get(path.stem)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
        name = path.stem if known is None and path.stem not in sys.stdlib_module_names else f"own_{path.stem}"
        spec = spec_from_file_location(name, path, loader=_Loader(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            with user_code(f"importing {path.name}"):
                spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        self._files[path] = module
        return module

    def _module(self, place: str, folder: Path | None) -> ModuleType:
        if folder is not None:
            self._look_in(folder.resolve())
        importlib.invalidate_caches()
        with user_code(f"importing {place}"):
            module = importlib.import_module(place)
        top = getattr(sys.modules[place.partition(".")[0]], "__file__", None)
        if top is not None and place != live.__name__ and not is_theirs(top, self._folders):
            self._installed[place] = module
            # Beside a module that is one file lies everything else that is installed.
            self.roots.append(Path(top).parent if Path(top).stem == "__init__" else Path(top))
        return module

    def _look_in(self, folder: Path) -> None:
        if folder not in self._folders:
            self._folders.append(folder)
            self.roots.append(folder)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
            self._paths.append(str(folder))
        importlib.invalidate_caches()

    def _remember(self, before: dict[str, ModuleType]) -> None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if before.get(name) is not module and isinstance(file, str) and is_theirs(file, self._folders):
                self._last[name] = module


def _in_package(path: Path) -> tuple[str, Path] | None:
    """The dotted name of a file that is part of a package, and the folder that the package is in. None for any other file, and
    where something else is imported by the package's name.
    """
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    known = sys.modules.get(parts[0])
    taken = known is not None and getattr(known, "__file__", None) != str(folder / parts[0] / "__init__.py")
    if folder == path.parent or taken or not all(part.isidentifier() for part in parts):
        return None
    return ".".join(parts), folder

"""Which class a call of ``RefreshableSession`` makes an object of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from .exceptions import BRSValidationError

if TYPE_CHECKING:
    from .session import RefreshableSession

#: The methods of this package. Each has a module of the same name, which is imported when it is needed.
_OWN = ("custom", "iot", "sts")


class _Loading(type):
    """Loads the package's own classes when somebody looks at all of them."""

    @property
    def items(cls) -> dict[str, type[RefreshableSession]]:
        for method in _OWN:
            Registry.find(method)
        return Registry.known


class Registry(metaclass=_Loading):
    """The methods of :class:`RefreshableSession`, and the class of each."""

    known: ClassVar[dict[str, type[RefreshableSession]]] = {}

    @classmethod
    def find(cls, method: str) -> type[RefreshableSession] | None:
        """The class of the method; None where there is no such method."""
        if method in _OWN and method not in cls.known:
            importlib.import_module(f".{method}", __package__)
        return cls.known.get(method)


class Dispatch(type):
    """Makes ``RefreshableSession(method=…)`` an object of the method's class."""

    _combined: dict[tuple[type, str], type] = {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if getattr(cls, "_method", None) is not None:
            return super().__call__(*args, **kwargs)
        method, args = _method_of(cls, args, kwargs)
        return super(Dispatch, cls._of(method)).__call__(*args, **kwargs)

    def _of(cls, method: str) -> Any:
        """The class of the method; for a subclass of RefreshableSession itself, one that derives from both."""
        known = Registry.find(method)
        if known is None:
            raise BRSValidationError(
                f"{method!r} is no method; there are {', '.join(sorted(Registry.items))}.",
                param="method",
                value=method,
            )
        if vars(cls).get("_is_factory"):
            return known
        combined = Dispatch._combined.get((cls, method))
        if combined is None:
            names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_combined_of": cls}
            combined = type(cls)(cls.__name__, (cls, known), names)
            Dispatch._combined[cls, method] = combined
        return combined


def _method_of(
    cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, tuple[Any, ...]]:
    """The method, and the other positional arguments, which a subclass may have."""
    is_factory = bool(vars(cls).get("_is_factory"))
    if is_factory and len(args) > 1:
        raise TypeError(
            f"{cls.__name__}() takes one positional argument, the method, but {len(args)} were given"
        )
    if args and (is_factory or isinstance(args[0], str) and Registry.find(args[0])):
        if "method" in kwargs:
            raise TypeError(f"{cls.__name__}() got multiple values for argument 'method'")
        return args[0], args[1:]
    return kwargs.pop("method", "sts"), args

"""The light transform's Python, checked without running it: when its dataset is registered, and before each use."""

from __future__ import annotations

import ast


class PythonTextError(ValueError):
    """The text is no Python, or does not define ``transform(path)``."""


def check(text: str, name: str = "light.py") -> None:
    """Parse the text of the file ``name``, and see that it defines ``transform`` with one parameter.

    Raises:
        PythonTextError: with the line.
    """
    try:
        tree = ast.parse(text, name)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise PythonTextError(line) from error
    found = [
        one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == "transform"
    ]
    if not found:
        raise PythonTextError("must define transform(path), which returns the file's rows")
    function = found[-1]
    if isinstance(function, ast.AsyncFunctionDef):
        raise PythonTextError(f"line {function.lineno}: transform must be a plain function, without async")
    arguments = function.args
    places = [*arguments.posonlyargs, *arguments.args]
    required = len(places) - len(arguments.defaults)
    keywords = sum(default is None for default in arguments.kw_defaults)
    if required > 1 or keywords or not (places or arguments.vararg):
        raise PythonTextError(f"line {function.lineno}: transform must take one argument, the path of the raw file")

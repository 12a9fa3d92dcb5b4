"""SQL that compares a time with the event time in a version: its first 16 hexadecimal digits, µs since 1970."""

from typing import Any

from sqlalchemy import Boolean
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class is_after_version(FunctionElement[bool]):
    """Whether a time (first argument, a column `TIME`) is later than a version's event time (second argument)."""

    type = Boolean()
    inherit_cache = True


@compiles(is_after_version, "sqlite")
def _for_sqlite(element: is_after_version, compiler: SQLCompiler, **options: Any) -> str:
    """SQLite keeps times as text with six digits of a second, and reads no hexadecimal numbers."""
    time, version = (compiler.process(clause, **options) for clause in element.clauses)
    us = f"CAST(strftime('%s', {time}) AS INTEGER) * 1000000 + CAST(substr({time}, 21, 6) AS INTEGER)"
    return f"printf('%016x', {us}) > substr({version}, 1, 16)"


@compiles(is_after_version, "mysql")
@compiles(is_after_version, "mariadb")
def _for_mysql(element: is_after_version, compiler: SQLCompiler, **options: Any) -> str:
    time, version = (compiler.process(clause, **options) for clause in element.clauses)
    us = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {time})"
    return f"{us} > CAST(CONV(SUBSTR({version}, 1, 16), 16, 10) AS UNSIGNED)"

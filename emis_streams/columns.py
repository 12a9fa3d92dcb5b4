"""Types of columns that several databases of ours have: ids that compare as bytes, times to the microsecond."""

from typing import Any

from sqlalchemy import CHAR, DateTime
from sqlalchemy.dialects import mysql

ID = CHAR(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")
TIME = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

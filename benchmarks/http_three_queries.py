"""The usual way: aiohttp, SQLAlchemy and aiomysql, three queries for a teacher with classes.

`python -m benchmarks.http_three_queries PORT DATABASE_URL`, on the very tables that our replica fills.
"""

import sys
from typing import Any

import msgspec
import uvloop
from aiohttp import web
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from emis_streams.replica.reader import ASSIGNMENTS
from emis_streams.replica.schema import class_infos, teachers

_POOL_SIZE = 20
_TEACHER = select(teachers.c.TeacherId, teachers.c.FullName, teachers.c.Email, teachers.c.SchoolId).where(
    teachers.c.TeacherId == bindparam("teacher_id")
)
_CLASSES = select(
    class_infos.c.ClassId,
    class_infos.c.ClassName,
    class_infos.c.Grade,
    class_infos.c.AcademicYear,
    class_infos.c.TotalStudents,
    class_infos.c.SchoolId,
    class_infos.c.HomeroomTeacherId,
    class_infos.c.LastSyncedAt,
).where(class_infos.c.ClassId.in_(bindparam("class_ids", expanding=True)))

_ENGINE: web.AppKey[AsyncEngine] = web.AppKey("engine", AsyncEngine)
_encode = msgspec.json.Encoder().encode


async def teacher(request: web.Request) -> web.Response:
    teacher_id = request.match_info["teacher_id"]
    async with request.app[_ENGINE].connect() as connection:
        found = (await connection.execute(_TEACHER, {"teacher_id": teacher_id})).mappings().one_or_none()
        if found is None:
            raise web.HTTPNotFound
        assigned = (await connection.execute(ASSIGNMENTS, {"teacher_id": teacher_id})).mappings().all()
        wanted = {"class_ids": [assignment["ClassId"] for assignment in assigned]}
        classes = {row["ClassId"]: row for row in (await connection.execute(_CLASSES, wanted)).mappings()}
    answer: dict[str, Any] = dict(found)
    answer["classAssignments"] = [{**assignment, **classes.get(assignment["ClassId"], {})} for assignment in assigned]
    return web.Response(body=_encode(answer), content_type="application/json")


def application(database_url: str) -> web.Application:
    app = web.Application()
    url = database_url.replace("mysql://", "mysql+aiomysql://", 1)
    app[_ENGINE] = create_async_engine(url, pool_size=_POOL_SIZE, max_overflow=0)
    app.router.add_get("/api/teachers/{teacher_id}", teacher)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)

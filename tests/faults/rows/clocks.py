"""Services whose clocks are wrong: each pair that talks to each other to opposite sides, then the other way round."""

import asyncio
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from emis_streams.local.readiness import ask
from tests.faults.course import Course, Evidence, Row
from tests.faults.lesson_load import LessonLoad
from tests.faults.service_stage import FaultService, ServiceStage, service_stage
from tests.faults.stage import NotInTime, until
from tests.faults.wrong_clock import wrong_clock

DAY = 86_400.0
_AHEAD = {"gateway": -1, "lessons": 1, "progress": -1, "users": 1}
"""Which services are ahead at first. The one that asks and the one that is asked are on opposite sides, and so are the
one that makes events and one of those that take them.
"""
_USERS = 8
_LESSONS = 60
_SHOWN_SECONDS = 15.0
_ALLOWED_SECONDS = 2.0
"""That a measured skew, or the time of a lesson, may be wrong."""
_LEASE_SECONDS = 10.0
_OUTCOMES = ("carried_out", "refused", "failed", "expired", "overloaded", "repeated", "unreadable")
"""Every request that reaches the lesson service is counted as one of these."""
_POLL_SECONDS = 0.2


@dataclass
class Scene:
    """The services, and what was seen of them."""

    course: Course
    seconds: float
    services: dict[str, FaultService]
    sign: int = 1
    broken: list[str] = field(default_factory=list)
    n_accepted: int = 0
    n_expired: int = 0
    shown_after: list[float] = field(default_factory=list)
    skews: list[float] = field(default_factory=list)

    @property
    def gateway(self) -> FaultService:
        return self.services["gateway"]

    def wrong_by(self, name: str) -> float:
        return self.sign * _AHEAD[name] * self.seconds

    async def start(self, *names: str) -> None:
        for name in names:
            self.services[name].start(environment=wrong_clock(self.wrong_by(name)))
        for name in names:
            if name != "gateway":
                await self.services[name].ready()
        await until(self._can_be_asked, 60, "the gateway has found the services")

    async def _can_be_asked(self) -> bool:
        """All but the teacher service, which is no part of this row."""
        _, report = await self.get("gateway", "/readyz")
        return report is not None and report["reasons"] in ([], ["not registered: teacher"])

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            self.broken.append(f"{'first' if self.sign > 0 else 'other'} way: {text}")

    def lose(self, what: str, text: str) -> None:
        """Something that was accepted, or is still waited for, is not done."""
        self.require(False, text)
        self.course.findings.add("lost", what, text)

    async def get(self, name: str, path: str) -> tuple[int, Any]:
        return await asyncio.to_thread(self.services[name].get, path)

    async def expired(self) -> int:
        """Requests that the lesson service left out."""
        return (await self._requests())["expired"]

    async def require_none_expired_early(self, n_calls: int, seconds: float, log: str) -> None:
        """For so many calls within these seconds, that were all answered; `log` is what the lesson service wrote then.

        On a busy machine an attempt can really take too long. Then the gateway has sent the call again, and the lesson
        service has seen the request wait for no longer than there were calls at all.
        """
        requests = await self._requests()
        n_sent_again = sum(requests[outcome] for outcome in _OUTCOMES) - n_calls
        if requests["expired"] > n_sent_again:
            self.lose("lessons", f"{requests['expired']} requests expired, {n_sent_again} were sent again")
        for waited in map(float, re.findall(r"and was in the log for ([0-9.]+) s", log)):
            if waited > seconds + _ALLOWED_SECONDS:
                self.lose("lessons", f"a request expired that has waited for {waited} s, in calls of {seconds:.1f} s")

    async def _requests(self) -> dict[str, int]:
        """Of the lesson service since its start, by what became of them. Raises NotInTime if it does not tell."""
        answer = await asyncio.to_thread(ask, "127.0.0.1", self.services["lessons"].port, "/metrics")
        found = re.findall(r'^emis_requests_total\{outcome="(\w+)"\} ([0-9.e+]+)$', answer.body if answer else "", re.M)
        if not found:
            raise NotInTime("/metrics of the lesson service does not answer")
        return {outcome: int(float(n)) for outcome, n in found}


async def services_clocks(course: Course, seconds: float, signs: Sequence[int] = (1, -1)) -> Evidence:
    """Lessons are made, shown, looked up and asked for again, with each clock wrong to one side, then to the other.

    `signs` says which sides: 1 is that of `_AHEAD`.
    """
    async with service_stage(course) as stage:
        scene = Scene(course, seconds, _services(stage))
        for sign in signs:
            scene.sign = sign
            await scene.start(*scene.services)
            await _looked_at(scene)
            for service in scene.services.values():
                await service.stop()
    wrong = [abs(abs(skew) - seconds) < _ALLOWED_SECONDS for skew in scene.skews]
    said = {
        "accepted": scene.n_accepted,
        "shown_after_s": round(max(scene.shown_after, default=-1.0), 1),
        "left_out": scene.n_expired,
        "skews_s": [round(skew, 1) for skew in scene.skews],
    }
    return Evidence(bit=len(wrong) == len(signs) * len(_AHEAD) and all(wrong), said=said, broken=scene.broken)


def _services(stage: ServiceStage) -> dict[str, FaultService]:
    return {name: stage.add(name) for name in _AHEAD}


async def _looked_at(scene: Scene) -> None:
    await _skews_are_shown(scene)
    load = LessonLoad(scene.gateway.port, n_users=_USERS)
    loop = asyncio.get_running_loop()
    began, n_logged = loop.time(), len(scene.services["lessons"].log())
    watching = asyncio.create_task(_registry_stays(scene))
    async with load.running():
        await until(lambda: len(load.accepted) >= _LESSONS, 60, "lessons are accepted")
    scene.n_accepted += len(load.accepted)
    scene.require(load.n_refused == 0, f"{load.n_refused} calls were not answered with 201")
    log = scene.services["lessons"].log()[n_logged:]
    await scene.require_none_expired_early(len(load.accepted) + load.n_refused, loop.time() - began, log)
    await _lessons_are_shown(scene, load)
    await _asked_again(scene)
    await watching
    await _what_nobody_waits_for_expires(scene)


async def _skews_are_shown(scene: Scene) -> None:
    """By `/health` of each service; its own clock is also seen by `/livez`, or the fault did not bite."""
    for name in scene.services:
        _, alive = await scene.get(name, "/livez")
        scene.skews.append((datetime.fromisoformat(alive["timestamp"]) - datetime.now(UTC)).total_seconds())
        _, report = await scene.get(name, "/health")
        check = report["checks"]["clock"]
        off = abs((check["observedValue"] or 0.0) - scene.wrong_by(name))
        scene.require(check["status"] == "warn", f"{name} finds its clock right: {check['output']}")
        scene.require(
            off < _ALLOWED_SECONDS, f"{name} is wrong by {scene.wrong_by(name)} s and says: {check['output']}"
        )


async def _registry_stays(scene: Scene) -> None:
    """For longer than a lease: all instances are in the gateway's registry, and none of them is unhealthy."""
    ends_at = asyncio.get_running_loop().time() + _LEASE_SECONDS + 3
    wanted = set(scene.services) - {"gateway"}
    while asyncio.get_running_loop().time() < ends_at:
        answer = await asyncio.to_thread(ask, "127.0.0.1", scene.gateway.port, "/metrics")
        there = set(
            re.findall(r'^emis_registry_instances\{service="(\w+)"\} [1-9]', answer.body if answer else "", re.M)
        )
        if not wanted <= there:
            scene.require(False, f"not in the registry: {', '.join(sorted(wanted - there))}")
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _lessons_are_shown(scene: Scene, load: LessonLoad) -> None:
    """On the pages of both services that hear of lessons; what the contract refuses never is."""
    began = asyncio.get_running_loop().time()
    made: Mapping[str, set[str]] = defaultdict(set)
    for lesson in load.accepted:
        made[lesson.user_id].add(lesson.lesson_id)
    for path, field_name in (("/progress/{}", "lessons"), ("/users/{}/activity", "activities")):

        async def all_shown(path: str = path, field_name: str = field_name) -> bool:
            for user_id, lesson_ids in made.items():
                status, answer = await scene.get("gateway", path.format(user_id))
                if status != 200 or not lesson_ids <= {one["lessonId"] for one in answer[field_name]}:
                    return False
            return True

        try:
            await until(all_shown, _SHOWN_SECONDS, f"{path} shows what was accepted", _POLL_SECONDS)
        except NotInTime as late:
            scene.lose(path, str(late))
    scene.shown_after.append(asyncio.get_running_loop().time() - began)


async def _asked_again(scene: Scene) -> None:
    """The same key gives the same lesson, whose time is right."""
    key, body = str(uuid.uuid4()), {"title": "Phân số", "userId": str(uuid.uuid4())}
    first, again = [await _post(scene, key, body) for _ in range(2)]
    scene.require(first == again and first[0] == 201, f"asked again with its key: {first}, then {again}")
    if first[0] == 201:
        made_at = datetime.fromisoformat(first[1]["createdAt"])
        off = abs((made_at - datetime.now(UTC)).total_seconds())
        scene.require(off < 30, f"a lesson has a time that is wrong by {off:.0f} s")


async def _what_nobody_waits_for_expires(scene: Scene) -> None:
    """A lesson service that was away begins with nothing that nobody waits for any more."""
    lessons = scene.services["lessons"]
    lessons.kill()
    body = {"title": "Phân số", "userId": str(uuid.uuid4())}
    status, _ = await _post(scene, str(uuid.uuid4()), body)
    scene.require(status in (503, 504), f"a call without a lesson service was answered with {status}")
    await scene.start("lessons")
    try:
        await until(lambda: _has_expired(scene), 30, "what nobody waited for was left out")
    except NotInTime as late:
        scene.require(False, str(late))
    scene.n_expired += max(0, await scene.expired())
    scene.require("not carried out, as nobody waits for it any more" in lessons.log(), "the log says nothing of it")
    status, answer = await scene.get("gateway", f"/progress/{body['userId']}")
    scene.require(not (status == 200 and answer["lessons"]), "a call that was given up was carried out")


async def _has_expired(scene: Scene) -> bool:
    return await scene.expired() > 0


async def _post(scene: Scene, key: str, body: Mapping[str, str]) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{scene.gateway.port}/lessons"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http,
        http.post(url, json=body, headers={"Idempotency-Key": key}) as answer,
    ):
        return answer.status, json.loads(await answer.text())


_one_way = partial(services_clocks, seconds=700, signs=(1,))
ONE_WAY = Row("clocks-one-way", "services' clocks are wrong by 700 s, to one side", _one_way)
"""For the mutants: half of row 52b, that in which the service that makes events is ahead."""
ROWS = [
    Row("52a", "services' clocks are wrong by 12 s, to either side", partial(services_clocks, seconds=12)),
    Row("52b", "services' clocks are wrong by 700 s, to either side", partial(services_clocks, seconds=700)),
    Row("52c", "services' clocks are wrong by 8 d, to either side", partial(services_clocks, seconds=8 * DAY)),
]

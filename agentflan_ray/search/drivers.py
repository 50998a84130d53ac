"""Which process runs which trial of a study, where several search together or one takes the place of a dead one.

A *driver* is a process that runs trials. It leaves a record in the study and renews it (a lease); each trial that it
starts carries its id. A trial that the study holds as running and that nobody runs any more is an orphan:

- of a driver that ended, or of an earlier life of the same experiment: free at once. A search that is run again after
  ``kill -9`` therefore goes on without waiting.
- of another experiment: free when the lease has run out.

Optuna's own heartbeat (5.0, ``RDBStorage(heartbeat_interval=…)``) fails stale trials, which then count as paid and
lost, warns outside of ``Study.optimize``, and passes over a trial that died before its first beat.

Leases compare the clocks of the drivers' machines, which should agree to some seconds.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock

logger = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""How long a driver that says nothing is taken to live. A proposal of a slow sampler on a busy machine took 45 s."""
RENEW_SECONDS = 10.0
"""How often it says something."""

_RECORD = "driver:"
# Of Optuna's tables (5.0); the row of this key is written once, when the study is made.
_STUDIES = sqlalchemy.table("studies", sqlalchemy.column("study_id"), sqlalchemy.column("study_name"))
_ATTRIBUTES = sqlalchemy.table("study_user_attributes", sqlalchemy.column("study_id"), sqlalchemy.column("key"))
LOCKED_ATTRIBUTE = "search"


class Driver:
    """One process that runs trials of a study; it counts as alive while :meth:`renew` is called.

    Attributes:
        id: Its name in the study.
        position: How many drivers and earlier lives of this one the study has had before.

    Args:
        study: The study.
        engine: Its database.
        experiment: What is run; two living drivers of one study have different ones.

    Raises:
        ValueError: A living process runs this experiment. On another machine, or where its process number is taken
            again, that takes up to :data:`LEASE_SECONDS` to find out.
    """

    def __init__(self, study: optuna.Study, engine: sqlalchemy.Engine, experiment: str) -> None:
        self.id = uuid.uuid4().hex[:12]
        self._study = study
        self._record = {"experiment": experiment, "host": socket.gethostname(), "pid": os.getpid(), "ended": False}
        self._renewed = -math.inf
        seen: dict[str, float] = {}
        while True:
            with alone(engine, study.study_name):
                others = self._earlier_lives()
                if not others:
                    self.position = len(drivers_of(study))
                    self.renew()
                    return
            for key, record in others.items():
                if record["renewed"] > seen.setdefault(key, record["renewed"]):
                    raise ValueError(
                        f"The experiment {experiment} is being run by process {record['pid']} on {record['host']}; "
                        "end that one, or give this one another name: both can share the study."
                    )
            if len(seen) == len(others):
                logger.warning("Looking whether %s is still run elsewhere, %.0f s at most", experiment, LEASE_SECONDS)
            time.sleep(min(1.0, RENEW_SECONDS / 2))

    def renew(self) -> bool:
        """Says that this driver lives, unless it did so less than :data:`RENEW_SECONDS` ago; whether it said it."""
        due = time.monotonic() - self._renewed >= RENEW_SECONDS
        if due:
            self._write()
        return due

    def end(self) -> None:
        """Gives all that it still runs free."""
        self._record["ended"] = True
        self._write()

    def runs(self, driver: str | None, records: dict[str, dict[str, Any]] | None = None) -> bool:
        """Whether another driver, by its id, is at work on what it started; ``records`` are :func:`drivers_of`."""
        if driver is None or driver == self.id:
            return False
        record = (drivers_of(self._study) if records is None else records).get(driver)
        return (
            record is not None
            and not record["ended"]
            and record["experiment"] != self._record["experiment"]
            and time.time() - record["renewed"] <= LEASE_SECONDS
        )

    def _write(self) -> None:
        self._renewed = time.monotonic()
        self._study.set_user_attr(_RECORD + self.id, {**self._record, "renewed": time.time()})

    def _earlier_lives(self) -> dict[str, dict[str, Any]]:
        """Records of this experiment whose process may be alive."""
        return {
            key: record
            for key, record in drivers_of(self._study).items()
            if record["experiment"] == self._record["experiment"]
            and not record["ended"]
            and time.time() - record["renewed"] <= LEASE_SECONDS
            and not (record["host"] == self._record["host"] and _is_over(record["pid"]))
        }


def drivers_of(study: optuna.Study) -> dict[str, dict[str, Any]]:
    """The records of all drivers that ever worked on a study, by id."""
    return {key.removeprefix(_RECORD): value for key, value in study.user_attrs.items() if key.startswith(_RECORD)}


@contextlib.contextmanager
def alone(engine: sqlalchemy.Engine, study_name: str) -> Iterator[None]:
    """Only one driver at a time is within: what is counted there stays true until it leaves.

    SQLite knows no lock that spans transactions, so there it is a file beside the database; elsewhere it is a lock on
    a row of the study's, which the database gives back when its holder dies.
    """
    if engine.dialect.name == "sqlite":
        # A database in memory belongs to one process.
        with FileLock(f"{engine.url.database}.lock") if engine.url.database else contextlib.nullcontext():
            yield
        return
    study = sqlalchemy.select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == study_name).scalar_subquery()
    row = sqlalchemy.select(_ATTRIBUTES.c.key).where(
        _ATTRIBUTES.c.study_id == study, _ATTRIBUTES.c.key == LOCKED_ATTRIBUTE
    )
    with engine.begin() as connection:
        connection.execute(row.with_for_update()).scalar_one()
        yield


def _is_over(pid: int) -> bool:
    """Whether a process of this machine has ended. An earlier searcher of this very process has."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

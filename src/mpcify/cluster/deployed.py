"""A deployed folder at work: what it takes to serve from one, and the client's model over one."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue

from mpcify.cluster.client import Connection
from mpcify.cluster.deployment import Deployment, read_deployment, read_exported
from mpcify.cluster.desk import Desk
from mpcify.cluster.health import Health
from mpcify.cluster.keys import now, read_kit
from mpcify.cluster.logs import Form, Log, libraries
from mpcify.cluster.metrics import Metrics
from mpcify.cluster.party import Patience, Service
from mpcify.cluster.programs import Programs
from mpcify.cluster.session import CLIENT
from mpcify.cluster.witness import Witness
from mpcify.errors import MpcifyError
from mpcify.inference import PrivateModel
from mpcify.network.grpc import GrpcNetwork
from mpcify.network.tls import Credentials

HOUR, MINUTE = 3600.0, 60.0  # seconds between two looks at a certificate, and at one that is not valid
SOON = 30.0  # days ahead of which a certificate's end is warned of


def connect(
    folder: str | Path, *, length: int | None = None, truncate: bool = False, witness: Witness | None = None
) -> PrivateModel:
    """The model of a client who is a party: see `mpcify.connect`. witness: who hears of sessions and requests.

    Raises MPC-701 for a delegate's folder too, who knows no inputs.
    """
    private = model_of(folder, length=length, truncate=truncate, witness=witness)
    assert private.source is not None
    try:
        private.source.ready()
    except BaseException:
        private.close()
        raise
    return private


def model_of(
    folder: str | Path, *, length: int | None = None, truncate: bool = False, witness: Witness | None = None
) -> PrivateModel:
    """As `connect`, but no party is reached before something is asked."""
    deployment = read_deployment(folder, CLIENT)
    if deployment.engine.delegated:
        remedy = "ask with the folder of a thin client; what this folder is for: mpcify gateway FOLDER"
        raise MpcifyError(701, str(folder), "it is a delegate's, which knows no inputs", remedy)
    connection = connection_of(deployment, witness)
    exported = connection.programs.exported
    try:
        return PrivateModel(exported, deployment.engine.build(), connection, length=length, truncate=truncate)
    except BaseException:
        connection.close()
        raise


def connection_of(deployment: Deployment, witness: Witness | None = None) -> Connection:
    """The client's end of its cluster, in which no session is open yet. Raises as `connect` for the folder."""
    programs = programs_of(deployment)
    return Connection(programs, network_of(deployment, programs), deployment.timeouts.connect, witness)


def programs_of(deployment: Deployment) -> Programs:
    """What a party's folder lets it run."""
    exported = read_exported(deployment.exported, deployment.role).serving(deployment.lengths)
    return Programs(deployment.role, exported, deployment.engine.build())


def network_of(deployment: Deployment, programs: Programs) -> GrpcNetwork:
    """A party's place in the network. Raises MPC-701 if it cannot listen at its address, MPC-702 for its kit."""

    def credentials() -> Credentials:
        kit = read_kit(deployment.kit, deployment.role)
        return Credentials(kit.certificate, kit.key, kit.authority)

    credentials()  # what is wrong now is said now
    return GrpcNetwork(
        deployment.role,
        credentials,
        peers=deployment.peers,
        dialler=CLIENT,
        listen=deployment.listen,
        limits=programs.limits,
        timeout=deployment.timeouts.message,
    )


def serve(folder: str | Path, form: Form = "json") -> int:
    """Serves a party's part until SIGTERM or SIGINT; a request that runs then is answered first. How many were.

    form: of its log on stderr. Raises what `connect` raises for a folder, MPC-701 for the client's, which serves
    nobody.
    """
    deployment = read_deployment(folder)
    if deployment.role == CLIENT:
        remedy = "ask with mpcify infer --cluster FOLDER, or let others ask: mpcify gateway FOLDER"
        raise MpcifyError(701, str(folder), f"the {CLIENT} serves nobody", remedy)
    log, metrics = Log(deployment.role, form), Metrics(deployment.role, deployment.lengths)
    with libraries(log), health_of(deployment, metrics) as health:
        watch = CertificateWatch(deployment, log, metrics, health)
        watch()
        programs = programs_of(deployment)
        desk = Desk(metrics) if deployment.config.desk.address else None
        with network_of(deployment, programs) as network, desk_at_work(deployment, desk, programs, log):
            witness = Witness(log, metrics, health)
            service = Service(programs, network, witness, Patience(deployment.timeouts.idle), watch, desk)

            def stop() -> None:
                if desk:
                    desk.close()
                watch.draining = True
                watch.tell()
                network.health(False)
                service.stop()

            with on_signal(stop):
                log.event("ready", address=deployment.listen)
                watch.started = True
                network.health(True)
                service.serve()
        log.event("stopped")
        return service.answered


def desk_at_work(
    deployment: Deployment, desk: Desk | None, programs: Programs, log: Log
) -> AbstractContextManager[None]:
    """While open, halves come to a desk, if there is one. Raises MPC-701 and MPC-702 for its address and token."""
    if desk is None:
        return nullcontext()
    from mpcify.cluster.gateway.desk import desk_open  # HTTP's packages, which no other party serves with

    return desk_open(deployment, desk, programs, log)


@contextmanager
def health_of(deployment: Deployment, metrics: Metrics) -> Iterator[Health | None]:
    """Probes and metrics over HTTP, if the folder says where."""
    if deployment.health is None:
        yield None
        return
    with Health(deployment.health.host, deployment.health.port, metrics) as health:
        yield health


@contextmanager
def on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """While open, SIGTERM and SIGINT call `stop`, for a program that serves in its main thread.

    Not in that thread itself: a signal may come while it holds a lock that `stop` needs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told: SimpleQueue[bool] = SimpleQueue()  # of all that tells another thread, it alone can be used in a handler

    def follow() -> None:
        while told.get():
            stop()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    before = {number: signal.signal(number, lambda *_: told.put(True)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.put(False)
        follower.join()


class CertificateWatch:
    """Looks at a party's certificate once an hour, and when it ends, and tells metrics, log and probes the days it has.

    started: whether the party serves; only then can it be ready. draining: whether it answers its last request.
    """

    def __init__(self, deployment: Deployment, log: Log, metrics: Metrics, health: Health | None) -> None:
        self.deployment, self.log, self.metrics, self.health = deployment, log, metrics, health
        self.started = self.draining = False
        self.valid, self.due = True, 0.0

    def __call__(self) -> None:
        if time.monotonic() < self.due:
            return self.tell()
        self.due = time.monotonic() + HOUR
        try:
            kit = read_kit(self.deployment.kit, self.deployment.role)
        except MpcifyError as error:
            self.log.failure("certificate", error)
            self.metrics.certificate(0)
            self.valid, self.due = False, time.monotonic() + MINUTE
        else:
            self.valid = True
            self.due = min(self.due, time.monotonic() + (kit.not_after - now()).total_seconds())
            self.metrics.certificate(kit.days_left)
            if kit.days_left < SOON:
                self.log.event("certificate-expires", "warning", days=kit.days_left)
        self.tell()

    def tell(self) -> None:
        """Tells the probes."""
        if self.health is None:
            return
        if self.draining:
            self.health.ready(False, "draining")
        elif not self.valid:
            self.health.ready(False, "certificate")
        elif self.started:
            self.health.ready(True)

"""The training servicer: translates messages; jobs.py runs the jobs, worker.py trains."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.training.v1 import training_pb2, training_pb2_grpc
from python_services.kit import paging, telemetry
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError, invalid, not_found, precondition
from python_services.kit.instruments import list_instruments
from python_services.kit.journal import Journal
from python_services.kit.parameters import parameter
from python_services.kit.signal import within

from . import engines, logic, recipes, translate
from .config import Config
from .errors import TrainingError
from .gathering import Sources
from .jobs import Jobs

HEARTBEAT_S = 5.0
DEFAULT_PAGE = 100
EndReason = training_pb2.WatchTrainingJobResponse.EndReason


class Training(training_pb2_grpc.TrainingServiceServicer):
    """TrainingService over a queue of jobs."""

    def __init__(self, context: Context[Config], jobs: Jobs, journal: Journal, sources: Sources) -> None:
        self._context = context
        self._jobs = jobs
        self._journal = journal
        self._sources = sources

    async def ListEngines(
        self, request: training_pb2.ListEnginesRequest, context: object
    ) -> training_pb2.ListEnginesResponse:
        """What can train, with the version that is installed; empty where `make setup-train` has not run."""
        listed = [
            training_pb2.Engine(
                engine=each.name,
                version=each.version,
                parameters=[parameter(name, value) for name, value in {**engines.COMMON, **each.defaults}.items()],
                description=each.text,
            )
            for each in engines.ENGINES.values()
        ]
        part, token = paging.page(
            listed, request.page_size, request.page_token, scope="ListEngines", default=DEFAULT_PAGE
        )
        return training_pb2.ListEnginesResponse(engines=part, next_page_token=token)

    async def CreateTrainingJob(
        self, request: training_pb2.CreateTrainingJobRequest, context: object
    ) -> training_pb2.CreateTrainingJobResponse:
        """Checks everything that can be checked before, then queues the job."""
        await self._check(request.spec)
        if request.validate_only:
            self._jobs.check_room()
            return training_pb2.CreateTrainingJobResponse(training_job=training_pb2.TrainingJob(spec=request.spec))
        job = self._jobs.create(request.request_id, request.spec, telemetry.caller.get())
        response = training_pb2.CreateTrainingJobResponse(training_job=job)
        await self._journal.commit(response)
        return response

    async def GetTrainingJob(
        self, request: training_pb2.GetTrainingJobRequest, context: object
    ) -> training_pb2.GetTrainingJobResponse:
        """One job."""
        seq = await self._durable(request.min_seq)
        job = self._jobs.book.job(request.training_job_id)
        return training_pb2.GetTrainingJobResponse(training_job=job, applied_seq=seq)

    async def ListTrainingJobs(
        self, request: training_pb2.ListTrainingJobsRequest, context: object
    ) -> training_pb2.ListTrainingJobsResponse:
        """Jobs, newest first."""
        seq = await self._durable(request.min_seq)
        jobs = self._jobs.book.newest_first(request.model_id, request.state)
        scope = f"ListTrainingJobs/{request.model_id}/{request.state}"
        part, token = paging.page(jobs, request.page_size, request.page_token, scope=scope, default=DEFAULT_PAGE)
        return training_pb2.ListTrainingJobsResponse(training_jobs=part, next_page_token=token, applied_seq=seq)

    async def CancelTrainingJob(
        self, request: training_pb2.CancelTrainingJobRequest, context: object
    ) -> training_pb2.CancelTrainingJobResponse:
        """Asks a job to stop."""
        response = training_pb2.CancelTrainingJobResponse(training_job=self._jobs.cancel(request.training_job_id))
        await self._journal.commit(response)
        return response

    async def WatchTrainingJob(
        self, request: training_pb2.WatchTrainingJobRequest, context: object
    ) -> AsyncIterator[training_pb2.WatchTrainingJobResponse]:
        """Updates from the first one wanted, then as they come. Updates are durable, so none is ever compacted."""
        jobs = self._jobs
        sent = max(request.from_seq - 1, 0)
        if sent > len(jobs.book.updates(request.training_job_id)):
            raise ServiceError(
                grpc.StatusCode.OUT_OF_RANGE,
                "FROM_SEQ_AHEAD",
                f"from_seq is {request.from_seq}, ahead of the job; watch from the last seq that you have seen",
            )
        while not self._context.draining:
            changed = jobs.changed.next()
            await self._journal.barrier()
            updates = jobs.book.updates(request.training_job_id)
            known = len(updates)
            ended = updates[known - 1].state in logic.ENDED
            if sent < known or ended:
                reason = EndReason.END_REASON_COMPLETED if ended else EndReason.END_REASON_UNSPECIFIED
                news = updates[sent:known]
                sent = known
                yield training_pb2.WatchTrainingJobResponse(seq=sent, updates=news, end_reason=reason)
                if ended:
                    return
            elif not await within(changed, HEARTBEAT_S):
                yield training_pb2.WatchTrainingJobResponse(seq=sent)
        yield training_pb2.WatchTrainingJobResponse(seq=sent, end_reason=EndReason.END_REASON_SHUTTING_DOWN)

    async def _durable(self, min_seq: int) -> int:
        await self._journal.barrier()
        seq = self._jobs.book.applied_seq
        if min_seq > seq:
            raise ServiceError(
                grpc.StatusCode.UNAVAILABLE,
                "NOT_APPLIED",
                f"the service has applied {seq}, and min_seq is {min_seq}; read again, or ask for less",
            )
        return seq

    async def _check(self, spec: training_pb2.TrainingSpec) -> None:
        """Raises ServiceError as the contract says."""
        if spec.engine not in engines.ENGINES:
            raise not_found("engine", spec.engine, f"known: {', '.join(engines.ENGINES)}")
        if spec.model_id not in recipes.names() or recipes.find(spec.model_id).reads != "market":
            raise not_found("model", spec.model_id, f"recipes: {', '.join(recipes.names())}")
        settings = translate.settings(spec)
        try:
            parameters = engines.parameters(spec.engine, settings["parameters"])
        except TrainingError as error:
            raise invalid("spec.parameters", error.message, "see ListEngines") from error
        if spec.label.kind == training_pb2.Label.KIND_FORWARD_VOLATILITY:
            raise invalid("spec.label.kind", "says nothing of a direction", "use another; volatility is learned anyway")
        data = spec.data
        if data.end_ns > data.known_at_ns:
            raise invalid("spec.data.end_ns", "is after known_at_ns", "end the range where the data is known")
        known = await list_instruments(self._sources.market_data)
        unknown = [name for name in data.instrument_ids if name not in known]
        if unknown:
            raise not_found("instrument", unknown[0], f"known: {', '.join(sorted(known)[:20])}")
        request = feature_pb2.GetFeatureSetRequest(feature_set_version=data.feature_set_version)
        await self._sources.features.GetFeatureSet(request)
        header = await self._sources.cut(data)
        if header.snapshot_id != data.dataset_sha256:
            remedy = f"the bars known at known_at_ns have the hash {header.snapshot_id}"
            raise not_found("dataset", data.dataset_sha256, remedy)
        needed = spec.cross_validation.groups * (spec.label.horizon_bars + spec.cross_validation.embargo_bars + 1)
        needed = max(needed, parameters["minimum_train_bars"] + parameters["walk_forward_folds"])
        if header.lookback_bars - parameters["holdout_bars"] < needed:
            raise precondition(
                "DATA_TOO_SHORT",
                f"{header.lookback_bars} bars are known, {parameters['holdout_bars']} of them held out; the "
                f"cross-validation needs {needed} more: widen the range, or use fewer groups",
            )


async def build(context: Context[Config]) -> None:
    """Rebuilds the jobs from the journal, and goes on with those that wait."""
    sources = Sources(
        context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data"),
        context.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store"),
    )
    journal = context.open_journal()
    jobs = Jobs(context.config, journal, sources, context.data_dir, context.signal())
    context.spawn(jobs.run(), "queue")
    servicer = Training(context, jobs, journal, sources)
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    context.add(register, servicer, "alphamesh.training.v1.TrainingService")


DEFINITION = ServiceDefinition(name="training", version="0.1.0", config=Config, build=build, niceness=10)

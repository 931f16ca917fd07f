"""FeatureService: translates messages, nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
import numpy as np
from google.protobuf.message import Message

from alphamesh.audit.v1 import state_pb2_grpc
from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError
from python_services.kit.journal import Event, Journal
from python_services.kit.paging import page
from python_services.kit.schemas import REGISTRY
from python_services.kit.snapshots import SnapshotClient
from python_services.kit.state import FollowedView, refetch_from
from python_services.kit.views import Follower

from . import logic, parity
from .backfill import Backfills
from .catalog import Catalog
from .config import Config
from .definitions import FEATURES, SETS
from .market import STREAM, Market
from .offline import Offline
from .serving import Serving

BEHIND_S = 2.0
PAGE = 100


class FeatureService(feature_pb2_grpc.FeatureServiceServicer):
    """The only writer of features, feature sets and their backfills."""

    def __init__(
        self,
        catalog: Catalog,
        market: Market,
        serving: Serving,
        backfills: Backfills,
        follower: Follower,
        journal: Journal,
        draining: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._market = market
        self._serving = serving
        self._backfills = backfills
        self._follower = follower
        self._journal = journal
        self._draining = draining

    # --- features and sets --------------------------------------------------------------------------

    async def RegisterFeature(
        self, request: feature_pb2.RegisterFeatureRequest, context: object
    ) -> feature_pb2.RegisterFeatureResponse:
        """See the contract."""
        feature, events = self._catalog.register(request.feature_id, request.definition, time.time_ns())
        reply = feature_pb2.RegisterFeatureResponse(feature=feature)
        if not request.validate_only:
            await self._commit(events, reply)
        return reply

    async def GetFeature(
        self, request: feature_pb2.GetFeatureRequest, context: object
    ) -> feature_pb2.GetFeatureResponse:
        """See the contract."""
        seq = await self._own(request.min_seq)
        feature = self._catalog.feature(request.feature_id, request.version)
        return feature_pb2.GetFeatureResponse(feature=feature, applied_seq=seq)

    async def ListFeatures(
        self, request: feature_pb2.ListFeaturesRequest, context: object
    ) -> feature_pb2.ListFeaturesResponse:
        """See the contract."""
        seq = await self._own(request.min_seq)
        chosen = [each for each in self._catalog.features.values() if request.owner in ("", each.definition.owner)]
        chosen.sort(key=lambda feature: feature.feature_id)  # stable: then by registration
        scope = f"ListFeatures/{request.owner}/{len(self._catalog.features)}"
        listed, following = page(chosen, request.page_size, request.page_token, scope=scope, default=PAGE)
        return feature_pb2.ListFeaturesResponse(features=listed, next_page_token=following, applied_seq=seq)

    async def DeprecateFeature(
        self, request: feature_pb2.DeprecateFeatureRequest, context: object
    ) -> feature_pb2.DeprecateFeatureResponse:
        """See the contract."""
        events = self._catalog.deprecate(request.feature, request.etag, request.reason)
        self._add(events)
        feature = self._catalog.feature(request.feature.feature_id, request.feature.version)
        reply = feature_pb2.DeprecateFeatureResponse(feature=feature)
        await self._journal.commit(reply)
        return reply

    async def RegisterFeatureSet(
        self, request: feature_pb2.RegisterFeatureSetRequest, context: object
    ) -> feature_pb2.RegisterFeatureSetResponse:
        """See the contract."""
        found, events = self._catalog.register_set(request.display_name, request.features, time.time_ns())
        reply = feature_pb2.RegisterFeatureSetResponse(feature_set=found)
        await self._commit(events, reply)
        return reply

    async def GetFeatureSet(
        self, request: feature_pb2.GetFeatureSetRequest, context: object
    ) -> feature_pb2.GetFeatureSetResponse:
        """See the contract."""
        await self._own(0)
        return feature_pb2.GetFeatureSetResponse(feature_set=self._catalog.feature_set(request.feature_set_version))

    async def ListFeatureSets(
        self, request: feature_pb2.ListFeatureSetsRequest, context: object
    ) -> feature_pb2.ListFeatureSetsResponse:
        """See the contract."""
        seq = await self._own(request.min_seq)
        newest = list(self._catalog.sets.values())[::-1]
        scope = f"ListFeatureSets/{len(newest)}"
        listed, following = page(newest, request.page_size, request.page_token, scope=scope, default=PAGE)
        return feature_pb2.ListFeatureSetsResponse(feature_sets=listed, next_page_token=following, applied_seq=seq)

    # --- values -------------------------------------------------------------------------------------

    async def GetOnlineFeatures(
        self, request: feature_pb2.GetOnlineFeaturesRequest, context: object
    ) -> feature_pb2.GetOnlineFeaturesResponse:
        """See the contract."""
        await self._applied(request.min_seq)
        answer = await self._serving.online(request)
        return feature_pb2.GetOnlineFeaturesResponse(
            arrow_ipc=answer.content,
            data_sha256=answer.sha256,
            stale_values=answer.stale,
            applied_seq=self._follower.applied_seq,
        )

    async def GetHistoricalFeatures(
        self, request: feature_pb2.GetHistoricalFeaturesRequest, context: object
    ) -> feature_pb2.GetHistoricalFeaturesResponse:
        """See the contract."""
        await self._applied(request.min_seq)
        content = await self._serving.past_table(request)
        return feature_pb2.GetHistoricalFeaturesResponse(
            arrow_ipc=content,
            data_sha256=hashlib.sha256(content).hexdigest(),
            applied_seq=self._follower.applied_seq,
        )

    async def CheckParity(
        self, request: feature_pb2.CheckParityRequest, context: object
    ) -> feature_pb2.CheckParityResponse:
        """See the contract."""
        version = request.feature_set_version
        features = self._catalog.computable(version)
        await self._journal.commit()
        served = list(parity.served(self._journal.read(1), version, request.start_ns, request.end_ns))
        if not served:
            raise ServiceError(
                grpc.StatusCode.OUT_OF_RANGE,
                "NOTHING_SERVED",
                "no features of this set were served online at a cut in this range; choose the range of a session",
            )
        names = [row[0] for row in served]
        as_of_ns = [row[1] for row in served]
        online = np.array([row[3] for row in served], dtype=np.float64)
        past = await self._serving.past(version, names, np.array(as_of_ns, dtype=np.int64))
        past, _ = past.fresh(features, np.array([row[2] for row in served], dtype=np.int64))
        ids = [feature.feature_id for feature in features]
        count, listed = parity.differences(ids, names, as_of_ns, online, past.values, request.tolerance)
        return feature_pb2.CheckParityResponse(
            compared=online.size, different=count, differences=listed, applied_seq=self._follower.applied_seq
        )

    # --- backfills ----------------------------------------------------------------------------------

    async def CreateBackfill(
        self, request: feature_pb2.CreateBackfillRequest, context: object
    ) -> feature_pb2.CreateBackfillResponse:
        """See the contract."""
        await self._serving.known(request.instrument_ids)
        reply = feature_pb2.CreateBackfillResponse(backfill=self._backfills.create(request))
        await self._journal.commit(reply)
        return reply

    async def GetBackfill(
        self, request: feature_pb2.GetBackfillRequest, context: object
    ) -> feature_pb2.GetBackfillResponse:
        """See the contract."""
        return feature_pb2.GetBackfillResponse(backfill=self._backfills.get(request.backfill_id))

    async def ListBackfills(
        self, request: feature_pb2.ListBackfillsRequest, context: object
    ) -> feature_pb2.ListBackfillsResponse:
        """See the contract."""
        jobs = [updates[-1] for updates in self._backfills.updates.values()][::-1]
        chosen = [job for job in jobs if request.state in (0, job.state)]
        scope = f"ListBackfills/{request.state}/{len(jobs)}"
        listed, following = page(chosen, request.page_size, request.page_token, scope=scope, default=PAGE)
        return feature_pb2.ListBackfillsResponse(backfills=listed, next_page_token=following)

    async def CancelBackfill(
        self, request: feature_pb2.CancelBackfillRequest, context: object
    ) -> feature_pb2.CancelBackfillResponse:
        """See the contract."""
        reply = feature_pb2.CancelBackfillResponse(backfill=self._backfills.cancel(request.backfill_id))
        await self._journal.commit(reply)
        return reply

    async def WatchBackfill(
        self, request: feature_pb2.WatchBackfillRequest, context: object
    ) -> AsyncIterator[feature_pb2.WatchBackfillResponse]:
        """See the contract. The n-th update of a job has sequence number n."""
        async for response in self._backfills.watch(request.backfill_id, request.from_seq, self._draining):
            yield response

    # --- journal and view ---------------------------------------------------------------------------

    def _add(self, events: Sequence[Message]) -> None:
        now = self._market.now_ns
        self._journal.add([Event(payload=event, ts_event_ns=now, ts_init_ns=now) for event in events])
        self._catalog.take(list(events))

    async def _commit(self, events: Sequence[Message], reply: Message) -> None:
        self._add(events)
        await self._journal.commit(reply)

    async def _own(self, min_seq: int) -> int:
        """What is not durable yet is read by nobody."""
        await self._journal.barrier()
        if self._journal.durable_seq < min_seq:
            raise _behind(min_seq, self._journal.durable_seq)
        return self._journal.durable_seq

    async def _applied(self, min_seq: int) -> None:
        """Waits a little for an event of market_data that the answer must include."""
        if self._follower.applied_seq < min_seq:
            try:
                async with asyncio.timeout(BEHIND_S):
                    await self._follower.wait_for(min_seq)
            except TimeoutError:
                raise _behind(min_seq, self._follower.applied_seq) from None


def _behind(min_seq: int, seq: int) -> ServiceError:
    return ServiceError(
        grpc.StatusCode.UNAVAILABLE,
        "NOT_APPLIED_YET",
        f"min_seq {min_seq} is not applied yet, {seq} is; ask again",
        metadata={"applied_seq": str(seq)},
    )


async def build(context: Context[Config]) -> None:
    """Rebuilds what is registered, registers what the code defines, and follows market_data."""
    logic.warm()
    stub = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, STREAM)
    journal, catalog = context.open_journal(), Catalog()
    market = Market(stub, lambda snapshot_id: serving.expect(snapshot_id))
    offline = Offline(context.data_dir / "offline")
    serving = Serving(catalog, market, SnapshotClient.of(context), offline, journal)
    backfills = Backfills(catalog, market, offline, journal, context.signal(), context.config.backfills_waiting)
    for frame in journal.read(1):
        for envelope in frame.events:
            event = REGISTRY.current(envelope)
            catalog.apply(event)
            backfills.apply(event)
    # What is code has no market time.
    events = catalog.register_code(FEATURES, SETS, time.time_ns())
    journal.add([Event(payload=event, ts_event_ns=0, ts_init_ns=0) for event in events])
    await journal.commit()
    refetch = refetch_from(context.stub(state_pb2_grpc.StateServiceStub, STREAM))
    follower = Follower(context.events, STREAM, market.apply, refetch)
    context.serve_view(FollowedView("bars", follower, market, lambda: Market(stub), refetch))
    context.spawn(follower.run(), "market")
    context.spawn(backfills.run(), "backfills")
    context.on_close(backfills.close)
    servicer = FeatureService(catalog, market, serving, backfills, follower, journal, lambda: context.draining)
    name = feature_pb2.DESCRIPTOR.services_by_name["FeatureService"].full_name
    context.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, name)


DEFINITION = ServiceDefinition(name="feature_store", version="0.1.0", config=Config, build=build)

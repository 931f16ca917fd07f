"""What a job reads, fetched from its owners: adjusted bars as a snapshot, features as of the close of each bar."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.training.v1 import training_pb2
from python_services.kit.ids import request_id
from python_services.kit.snapshots import Snapshot, fetch

from .dataset import Dataset, Floats, Ints
from .errors import TrainingError

LOOKBACK_BARS = 5000  # as many as a snapshot may have
ROWS = 20_000  # of one call: about 5 MB
_TIMES = ("event_time_ns", "known_time_ns")


class Sources:
    """The services that own the data."""

    def __init__(
        self,
        market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
        features: feature_pb2_grpc.FeatureServiceAsyncStub,
    ) -> None:
        self.market_data = market_data
        self.features = features

    async def cut(self, data: training_pb2.TrainingData) -> marketdata_pb2.SnapshotHeader:
        """Header of the snapshot that the bars come from: its id is the data set's hash. Errors of CutSnapshot."""
        request = marketdata_pb2.CutSnapshotRequest(
            request_id=request_id("training-data", data.known_at_ns, *data.instrument_ids),
            as_of_ns=data.known_at_ns,
            instrument_ids=data.instrument_ids,
            lookback_bars=LOOKBACK_BARS,
        )
        return (await self.market_data.CutSnapshot(request)).header

    async def gather(self, data: training_pb2.TrainingData) -> Dataset:
        """All rows of the range, with their bars. Raises TrainingError, and what the services answer."""
        header = await self.cut(data)
        if header.snapshot_id != data.dataset_sha256:
            raise TrainingError(
                "DATASET_CHANGED",
                f"the bars known at {data.known_at_ns} now have the hash {header.snapshot_id}, not "
                f"{data.dataset_sha256}; other data is loaded than when the job was created: create it again",
            )
        snapshot = await fetch(self.market_data, header.snapshot_id)
        instrument, bar = _rows(snapshot, data)
        if not len(bar):
            raise TrainingError("DATA_TOO_SHORT", "no bar lies in the range; widen start_ns and end_ns")
        names, features = await self._features(data, snapshot, instrument, bar)
        return Dataset(
            names=names,
            features=features,
            instrument=instrument,
            bar=bar,
            close=snapshot.close,
            close_ns=snapshot.ts_event_ns.astype(np.int64),
        )

    async def _features(
        self, data: training_pb2.TrainingData, snapshot: Snapshot, instrument: Ints, bar: Ints
    ) -> tuple[tuple[str, ...], Floats]:
        identifiers = [snapshot.instrument_ids[each] for each in instrument.tolist()]
        cuts = snapshot.ts_event_ns[bar].tolist()
        names: tuple[str, ...] = ()
        parts = []
        for first in range(0, len(cuts), ROWS):
            request = feature_pb2.GetHistoricalFeaturesRequest(
                feature_set_version=data.feature_set_version,
                instrument_ids=identifiers[first : first + ROWS],
                as_of_ns=cuts[first : first + ROWS],
                known_at_ns=data.known_at_ns,
            )
            response = await self.features.GetHistoricalFeatures(request)
            if hashlib.sha256(response.arrow_ipc).hexdigest() != response.data_sha256:
                raise TrainingError(
                    "DATA_DAMAGED", "features arrived with another hash than stated; create the job again"
                )
            batch = pa.ipc.open_file(pa.BufferReader(response.arrow_ipc)).get_batch(0)
            names = tuple(
                field.name for field in batch.schema if field.type == pa.float64() and field.name not in _TIMES
            )
            parts.append(np.column_stack([batch.column(n).to_numpy(zero_copy_only=False) for n in names]))
        return names, np.concatenate(parts).astype(np.float64)


def _rows(snapshot: Snapshot, data: training_pb2.TrainingData) -> tuple[Ints, Ints]:
    """(instrument, bar) of each row: every bar of the range that exists, by instrument, then time."""
    inside = (snapshot.ts_event_ns >= data.start_ns) & (snapshot.ts_event_ns < data.end_ns)
    instrument, bar = np.nonzero((np.isfinite(snapshot.close) & inside[:, None]).T)
    return instrument.astype(np.int64), bar.astype(np.int64)

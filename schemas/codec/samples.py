"""Made-up messages, for warming up compiled code and for benchmarks."""

from __future__ import annotations

import numpy as np

from schemas.codec.avro import encode
from schemas.features import FINGERPRINT, VECTOR_SIZE


def sample_vectors(count: int, seed: int = 1) -> list[bytes]:
    """Return `count` encoded FeatureVectors of random features, a tenth of them missing."""
    draw = np.random.default_rng(seed)
    vectors = np.abs(draw.normal(10.0, 30.0, (count, VECTOR_SIZE))).astype("<f4")
    vectors[draw.random(vectors.shape) < 0.1] = np.nan
    return [
        encode(
            "FeatureVector",
            {
                "source_partition": 0,
                "source_offset": row,
                "received_at": 1_700_000_000_000,
                "computed_at": 1_700_000_000_000_000,
                "duplicate": False,
                "late": False,
                "fingerprint": FINGERPRINT,
                "vector": vectors[row].tobytes(),
                "transaction": {
                    "transaction_id": f"transaction-{row:09d}",
                    "event_time": 1_700_000_000_000 + row,
                    "card_id": f"card-{row % 5000:06d}",
                    "merchant_id": f"merchant-{row % 300:05d}",
                    "amount": 1234,
                    "currency": "EUR",
                    "device_id": f"device-{row % 4000:06d}",
                    "ip": "203.0.113.7",
                    "attributes": {},
                },
            },
        )
        for row in range(count)
    ]

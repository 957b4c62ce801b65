"""The stored state of an entity in readable form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.table import Table as Grid

from runtime.feature_store.redis import RedisFeatureStore
from schemas.errors import UnreadableValue
from schemas.features import DAY, HOUR, MINUTE
from schemas.hash_table import new_table
from schemas.keys import EntityKind, entity_key, hash_id, normalise_ip
from stream_features.engine.state import batch
from stream_features.engine.state import entities as layout
from stream_features.engine.state.blob_check import FAULTS, MAX_TIME, SOUND
from stream_features.engine.state.given_back import GIVEN_BACK
from stream_features.engine.state.packing import SLACK

WINDOWS: Final = {
    "5 min": 5 * MINUTE,
    "1 h": HOUR,
    "24 h": DAY,
    "7 d": 7 * DAY,
    "30 d": 30 * DAY,
}
RECENT: Final = 10
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTotals:
    """Totals of the window that ends at the newest event.

    Cards and merchants have an `amount` (minor units); devices and IP addresses have `cards`, the
    number of distinct cards among the exact events.
    """

    name: str
    events: int
    amount: int | None
    cards: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityState:
    """The state of one entity; times in ms, amounts in minor units.

    `exact` events are stored one by one, `folded` ones in tiles. `frauds` are the known ones,
    `pending` the labels that wait for their transaction, and `given_back` the refunds and reversals
    whose ids are remembered. `recent` holds (time, amount) of the newest events; devices and IP
    addresses have no amounts.
    """

    kind: EntityKind
    identity: str
    key: bytes
    size: int
    ttl_ms: int
    first_seen: int
    newest: int
    exact: int
    folded: int
    frauds: int
    pending: int
    given_back: int
    windows: tuple[WindowTotals, ...]
    recent: tuple[tuple[int, int | None], ...]

    def report(self) -> dict[str, Any]:
        """Return the state as a JSON document."""
        windows = [
            {
                "window": window.name,
                "events": window.events,
                "amount": window.amount,
                "cards": window.cards,
            }
            for window in self.windows
        ]
        return {
            "kind": self.kind,
            "id": self.identity,
            "key": self.key.hex(),
            "bytes": self.size,
            "ttl_ms": self.ttl_ms,
            "first_seen": self.first_seen,
            "newest": self.newest,
            "exact_events": self.exact,
            "folded_events": self.folded,
            "frauds": self.frauds,
            "pending_labels": self.pending,
            "refunds_and_reversals": self.given_back,
            "windows": windows,
            "recent": [list(event) for event in self.recent],
        }


def read_state(
    store: RedisFeatureStore, prefix: bytes, kind: EntityKind, identity: str, label_delay_ms: int
) -> EntityState | None:
    """Return the state of an entity, or None if the store does not hold it. Blocks.

    `label_delay_ms` must be that of the stream processor, as old frauds are folded by it.

    Raises:
        ValueError: `kind` is ip, and `identity` is not an IP address.
        UnreadableValue: what is stored cannot be unpacked.
        StoreUnavailable: the store does not answer.
    """
    name = normalise_ip(identity) if kind == "ip" else identity
    key = entity_key(prefix, kind, hash_id(name))
    value = store.load([key])[0]
    if value is None:
        return None
    return state_of(kind, name, key, value, store.time_to_live(key), label_delay_ms)


def state_of(
    kind: EntityKind, identity: str, key: bytes, value: bytes, ttl_ms: int, label_delay_ms: int
) -> EntityState:
    """Return the state that a stored value holds; the arguments are those of an EntityState.

    Raises:
        UnreadableValue: it cannot be unpacked.
    """
    table = _unpacked(kind, key, value, label_delay_ms)
    slot = table.slots[0]
    start, events = int(slot[layout.START]), int(slot[layout.EVENTS])
    places = start + np.arange(table.columns)[:, None] * slot[layout.CAPACITY] + np.arange(events)
    pool = table.pool[places]
    first_mark, marks = int(slot[layout.MARK_START]), int(slot[layout.MARKED])
    ids = table.marks[layout.MARK_TRANSACTION, first_mark : first_mark + marks]
    row = int(slot[layout.HOT_ROW])
    tiles = table.tiles[row, :, : table.hot[row, layout.TILE_COUNT]] if row >= 0 else None
    newest = int(slot[layout.NEWEST])
    amounts = kind in ("card", "merchant")
    known = int((pool[layout.FLAGS] & layout.FRAUD != 0).sum()) if kind == "card" else marks
    if tiles is not None:
        known += int(tiles[layout.TILE_FRAUDS].sum())
    latest = pool[:, ::-1][:, :RECENT]
    return EntityState(
        kind=kind,
        identity=identity,
        key=key,
        size=len(value),
        ttl_ms=ttl_ms,
        first_seen=int(slot[layout.FIRST]),
        newest=newest,
        exact=events,
        folded=0 if tiles is None else int(tiles[layout.TILE_EVENTS].sum()),
        frauds=known,
        pending=_different(ids[ids & GIVEN_BACK == 0]) if kind == "card" else 0,
        given_back=_different(ids[ids & GIVEN_BACK != 0]) if kind == "card" else 0,
        windows=tuple(
            _window(name, newest - width, pool, tiles, amounts=amounts)
            for name, width in WINDOWS.items()
        ),
        recent=tuple(
            (time, amount if amounts else None)
            for time, amount in zip(
                latest[layout.TIME].tolist(), latest[layout.VALUE].tolist(), strict=True
            )
        ),
    )


def _different(ids: npt.NDArray[np.int64]) -> int:
    return len(np.unique(ids))


def _unpacked(kind: EntityKind, key: bytes, value: bytes, label_delay_ms: int) -> layout.Table:
    table: layout.Table = getattr(layout.new_tables(), kind)
    ids, slots = np.ones(1, np.uint64), np.zeros(1, np.int64)
    bounds = np.array([0, len(value)])
    data = np.frombuffer(value + bytes(SLACK), np.uint8)
    faults = np.zeros(1, np.uint8)
    while True:
        batch.open_slots(table, new_table(1), ids, slots, ids.copy())
        own: Any = (np.zeros(1, np.int64), faults)
        if batch.unpack_entities(table, data, bounds, *own, 0, label_delay_ms) == 1:
            break
        table = layout.larger_pool(layout.grown(table))
    if faults[0] != SOUND:
        raise UnreadableValue(
            f"the value of {key!r} ({kind}, {len(value):,} bytes) cannot be read: "
            f"{FAULTS[faults[0]]}. It is replaced at the next transaction: see StoredValuesRefused in "
            "docs/runbook.md"
        )
    return table


def _window(
    name: str, after: int, pool: Ints, tiles: Ints | None, *, amounts: bool
) -> WindowTotals:
    inside = pool[layout.TIME] > after
    values = pool[layout.VALUE][inside]
    count, total = int(inside.sum()), int(values.sum()) if amounts else 0
    if tiles is not None:
        older = tiles[layout.TILE_TIME] > after
        count += int(tiles[layout.TILE_EVENTS][older].sum())
        total += int(tiles[layout.TILE_SUM][older].sum()) if amounts else 0
    cards = None if amounts else len(np.unique(values))
    return WindowTotals(name=name, events=count, amount=total if amounts else None, cards=cards)


def _at(ms: int) -> str:
    """Return a time in words; a card that is only known by labels or refunds has none.

    A damaged value can hold any number.
    """
    if abs(ms) > MAX_TIME:
        return "none"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def readable(state: EntityState, places: int) -> Group:
    """Return the state as tables for a terminal; amounts have `places` decimal places."""

    def money(amount: int) -> str:
        return f"{amount / 10**places:,.{places}f}"

    facts = Grid(title=f"{state.kind} {state.identity}", show_header=False)
    rows = {
        "first seen": _at(state.first_seen),
        "newest event": _at(state.newest),
        "events held": f"{state.exact} exact, {state.folded} in tiles",
        "frauds known": str(state.frauds),
        "labels waiting": str(state.pending),
        "refunds and reversals": str(state.given_back),
        "size": f"{state.size:,} bytes",
        "expires in": f"{state.ttl_ms / DAY:.1f} days",
        "key": repr(state.key),
    }
    for name, text in rows.items():
        facts.add_row(name, text)
    windows = Grid(title="up to the newest event")
    last = "cards" if state.windows[0].amount is None else "sum"
    for heading in ("window", "events", last):
        windows.add_column(heading, justify="right")
    for window in state.windows:
        amount = window.cards if window.amount is None else money(window.amount)
        windows.add_row(window.name, str(window.events), str(amount))
    recent = Grid(title=f"newest {len(state.recent)}")
    recent.add_column("time")
    recent.add_column("amount", justify="right")
    for time, value in state.recent:
        recent.add_row(_at(time), "" if value is None else money(value))
    return Group(facts, windows, recent)

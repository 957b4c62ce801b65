"""Statistics of one card as of one transaction: windows × statistics into scratch."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.features import DAY, HOUR, MINUTE
from stream_features.engine.compiled import compiled, leaf
from stream_features.engine.distinct import insert, time_of
from stream_features.engine.fold import COUNTRIES, DEVICES, IPS, MCCS, MERCHANTS
from stream_features.engine.moments import prior_moments
from stream_features.engine.plan import STATISTICS
from stream_features.engine.table import (
    COUNTRY,
    DEVICE,
    FIRST,
    HOT_ROW,
    IP,
    MCC,
    MERCHANT,
    NEWEST,
    POSITION,
    SEEN_COLUMN,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_MAX,
    TILE_SUM,
    TILE_TIME,
    TIME,
    VALUE,
    end_at,
)

_ROWS = {name: index for index, name in enumerate(STATISTICS["card"])}
COUNT: Final = _ROWS["count"]
SUM: Final = _ROWS["sum"]
MEAN: Final = _ROWS["mean"]
MAX: Final = _ROWS["max"]
SMALL: Final = _ROWS["small_count"]
PRIOR_STD: Final = _ROWS["prior_std"]
DEVIATION: Final = _ROWS["deviation"]
RATIO: Final = _ROWS["ratio"]
RANK: Final = _ROWS["rank"]
DISTINCT: Final = _ROWS["distinct_merchants"]
MERCHANT_NEW: Final = _ROWS["merchant_is_new"]
MCC_NEW: Final = _ROWS["mcc_is_new"]
DEVICE_NEW: Final = _ROWS["device_is_new"]
COUNTRY_NEW: Final = _ROWS["country_is_new"]
HOUR_DEVIATION: Final = _ROWS["hour_deviation"]
SINCE_LAST: Final = _ROWS["seconds_since_last"]
AGE: Final = _ROWS["age"]
KM: Final = _ROWS["km_from_last"]
SPEED: Final = _ROWS["speed"]

SMALL_AMOUNT: Final = 500
"""Below 5.00: card testing."""
EARTH_RADIUS_KM: Final = 6371.0088
_COS: Final = np.cos(2 * np.pi * np.arange(24) / 24)
_SIN: Final = np.sin(2 * np.pi * np.arange(24) / 24)


@compiled
def great_circle_km(one, other):  # type: ignore[no-untyped-def]
    """Distance of two packed positions by the haversine formula (Sinnott, 1984)."""
    half = 2**31
    mask = 2**32 - 1
    lat1 = np.radians((((one >> 32) & mask) - half) / 1e7)
    lon1 = np.radians(((one & mask) - half) / 1e7)
    lat2 = np.radians((((other >> 32) & mask) - half) / 1e7)
    lon2 = np.radians(((other & mask) - half) / 1e7)
    a = (
        np.sin((lat2 - lat1) / 2) ** 2
        + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(min(1.0, a)))


@leaf
def hour_distance(hour, histogram, n):  # type: ignore[no-untyped-def]
    """Circular distance (h) of `hour` from the mean direction of n hours; NaN if undefined.

    Source: Mardia and Jupp, Directional Statistics (2000), section 2.2.
    """
    if n < 3:
        return np.nan
    x = 0.0
    y = 0.0
    for index in range(24):
        x += histogram[index] * _COS[index]
        y += histogram[index] * _SIN[index]
    if np.sqrt(x * x + y * y) / n < 1e-9:
        return np.nan
    mean = np.arctan2(y, x) * 24 / (2 * np.pi)
    distance = abs(hour - mean) % 24
    return min(distance, 24 - distance)


@leaf
def _totals(table, high, scratch, base, n_windows, starts, x):  # type: ignore[no-untyped-def]
    """Count, sum, mean, max and small count, growing from the newest segment backwards."""
    total = x.amount
    largest = x.amount
    small = 1 if x.amount < SMALL_AMOUNT else 0
    upper = high
    for w in range(n_windows):
        for index in range(starts[w], upper):
            amount = table.pool[VALUE, index]
            total += amount
            largest = max(largest, amount)
            if amount < SMALL_AMOUNT:
                small += 1
        upper = starts[w]
        scratch[base + COUNT * n_windows + w] = high - upper + 1
        scratch[base + SUM * n_windows + w] = total
        scratch[base + MAX * n_windows + w] = largest
        scratch[base + SMALL * n_windows + w] = small


@leaf
def _one_column(  # type: ignore[no-untyped-def]
    values,
    column,
    own,
    x_time,
    times,
    high,
    starts,
    n_windows,
    until,
    windows,
    hashes,
    scratch,
    base,
):
    found = 0
    if own != 0:
        insert(hashes, column, own, x_time)
        found = 1
    upper = high
    for w in range(n_windows):
        if windows[w] > until:
            break
        for index in range(upper - 1, starts[w] - 1, -1):
            value = values[index]
            if value != 0 and insert(hashes, column, value, times[index]):
                found += 1
        upper = starts[w]
        scratch[base + (DISTINCT + column) * n_windows + w] = found


@leaf
def _is_new(values, own, high, starts, n_windows, row, scratch, base):  # type: ignore[no-untyped-def]
    if own == 0:
        for w in range(n_windows):
            scratch[base + row * n_windows + w] = np.nan
        return
    last = high - 1
    while last >= starts[n_windows - 1] and values[last] != own:
        last -= 1
    for w in range(n_windows):
        scratch[base + row * n_windows + w] = 0.0 if last >= starts[w] else 1.0


@compiled
def _add_folded(table, row, floor, plan, hashes, scratch, x):  # type: ignore[no-untyped-def]
    """Add what was folded into tiles and seen values to counts, sums, maxima, distinct and new."""
    base = plan.offset
    n_windows = len(plan.windows)
    for tile in range(table.hot[row, TILE_COUNT]):
        time = table.tiles[row, TILE_TIME, tile]
        if time > x.time or time <= floor:
            continue
        for w in range(n_windows):
            if time > x.time - plan.windows[w]:
                scratch[base + COUNT * n_windows + w] += table.tiles[row, TILE_EVENTS, tile]
                scratch[base + SUM * n_windows + w] += table.tiles[row, TILE_SUM, tile]
                at = base + MAX * n_windows + w
                scratch[at] = max(scratch[at], table.tiles[row, TILE_MAX, tile])
    for entry in range(table.hot[row, SEEN_COUNT]):
        time = table.seen[row, SEEN_TIME, entry]
        if time > x.time or time <= floor:
            continue
        column = table.seen[row, SEEN_COLUMN, entry]
        value = table.seen[row, SEEN_VALUE, entry]
        newer = time_of(hashes, column, value, np.int64(-(2**62)))
        own = (
            (column == MERCHANTS and value == x.merchant)
            or (column == MCCS and value == x.mcc)
            or (column == DEVICES and value == x.device)
            or (column == COUNTRIES and value == x.country)
        )
        new_row = (
            MERCHANT_NEW
            if column == MERCHANTS
            else MCC_NEW
            if column == MCCS
            else DEVICE_NEW
            if column == DEVICES
            else COUNTRY_NEW
        )
        for w in range(n_windows):
            edge = x.time - plan.windows[w]
            if time <= edge:
                continue
            if plan.windows[w] <= plan.distinct_until[column] and newer <= edge:
                scratch[base + (DISTINCT + column) * n_windows + w] += 1
            if own:
                scratch[base + new_row * n_windows + w] = 0.0


@leaf
def card_statistics(table, slot, plan, keep, hashes, starts, histogram, scratch, x):  # type: ignore[no-untyped-def]
    """Fill the card block of scratch for transaction `x`, which is not in the state.

    `starts` (int64[windows]) and `histogram` (int64[24]) are scratch. Amounts come out in major
    units, times in the units of the catalogue.
    """
    base = plan.offset
    windows = plan.windows
    n_windows = len(windows)
    floor = table.slots[slot, NEWEST] - keep
    high = end_at(table, slot, x.time)
    low = end_at(table, slot, floor)
    low = min(low, high)
    for w in range(n_windows):
        starts[w] = max(low, min(high, end_at(table, slot, x.time - windows[w])))
    row = table.slots[slot, HOT_ROW]
    _totals(table, high, scratch, base, n_windows, starts, x)
    hashes.generation[0] += 1
    until = plan.distinct_until
    _one_column(table.pool[MERCHANT], MERCHANTS, x.merchant, x.time, table.pool[TIME], high, starts, n_windows, until[MERCHANTS], windows, hashes, scratch, base)  # fmt: skip
    _one_column(table.pool[MCC], MCCS, x.mcc, x.time, table.pool[TIME], high, starts, n_windows, until[MCCS], windows, hashes, scratch, base)  # fmt: skip
    _one_column(table.pool[DEVICE], DEVICES, x.device, x.time, table.pool[TIME], high, starts, n_windows, until[DEVICES], windows, hashes, scratch, base)  # fmt: skip
    _one_column(table.pool[COUNTRY], COUNTRIES, x.country, x.time, table.pool[TIME], high, starts, n_windows, until[COUNTRIES], windows, hashes, scratch, base)  # fmt: skip
    _one_column(table.pool[IP], IPS, x.ip, x.time, table.pool[TIME], high, starts, n_windows, until[IPS], windows, hashes, scratch, base)  # fmt: skip
    _is_new(
        table.pool[MERCHANT],
        x.merchant,
        high,
        starts,
        n_windows,
        MERCHANT_NEW,
        scratch,
        base,
    )
    _is_new(table.pool[MCC], x.mcc, high, starts, n_windows, MCC_NEW, scratch, base)
    _is_new(table.pool[DEVICE], x.device, high, starts, n_windows, DEVICE_NEW, scratch, base)
    _is_new(
        table.pool[COUNTRY],
        x.country,
        high,
        starts,
        n_windows,
        COUNTRY_NEW,
        scratch,
        base,
    )
    if row >= 0:
        _add_folded(table, row, floor, plan, hashes, scratch, x)
    for w in range(n_windows):
        count = scratch[base + COUNT * n_windows + w]
        total = scratch[base + SUM * n_windows + w]
        scratch[base + MEAN * n_windows + w] = total / count / 100
        scratch[base + SUM * n_windows + w] = total / 100
        scratch[base + MAX * n_windows + w] /= 100
        if plan.prior[w]:
            _prior(
                table,
                row,
                starts[w],
                high,
                floor,
                windows[w],
                n_windows,
                w,
                base,
                scratch,
                x,
            )
        if plan.hours[w]:
            histogram[:] = 0
            for index in range(starts[w], high):
                histogram[(table.pool[TIME, index] // HOUR) % 24] += 1
            scratch[base + HOUR_DEVIATION * n_windows + w] = hour_distance(
                (x.time // HOUR) % 24, histogram, high - starts[w]
            )
    _since_last(table, slot, row, low, high, floor, base, n_windows, scratch, x)


@leaf
def _prior(table, row, low, high, floor, window, n_windows, w, base, scratch, x):  # type: ignore[no-untyped-def]
    n, total, m2 = prior_moments(table, row, low, high, max(floor, x.time - window), x.time)
    std = np.nan
    deviation = np.nan
    ratio = np.nan
    rank = np.nan
    if n >= 1 and total > 0:
        ratio = x.amount * n / total
    if n >= 2:
        std = np.sqrt(m2 / (n - 1)) / 100
        if std > 0:
            deviation = (x.amount - total / n) / 100 / std
    if high > low:
        smaller = 0
        for index in range(low, high):
            if table.pool[VALUE, index] < x.amount:
                smaller += 1
        rank = smaller / (high - low)
    scratch[base + PRIOR_STD * n_windows + w] = std
    scratch[base + DEVIATION * n_windows + w] = deviation
    scratch[base + RATIO * n_windows + w] = ratio
    scratch[base + RANK * n_windows + w] = rank


@leaf
def _since_last(table, slot, row, low, high, floor, base, n_windows, scratch, x):  # type: ignore[no-untyped-def]
    newest = table.pool[TIME, high - 1] if high > low else np.int64(-(2**62))
    if row >= 0:
        for tile in range(table.hot[row, TILE_COUNT]):
            time = table.tiles[row, TILE_TIME, tile]
            if floor < time <= x.time and table.tiles[row, TILE_EVENTS, tile] > 0:
                newest = max(newest, time)
    since = np.nan
    if newest > -(2**62):
        since = (x.time - newest) / 1000
    scratch[base + SINCE_LAST * n_windows] = since
    scratch[base + AGE * n_windows] = (x.time - min(table.slots[slot, FIRST], x.time)) / DAY
    km = np.nan
    speed = np.nan
    if x.position != 0:
        index = high - 1
        while index >= low and table.pool[POSITION, index] == 0:
            index -= 1
        if index >= low:
            km = great_circle_km(table.pool[POSITION, index], x.position)
            hours = max(x.time - table.pool[TIME, index], MINUTE) / HOUR
            speed = km / hours
    scratch[base + KM * n_windows] = km
    scratch[base + SPEED * n_windows] = speed

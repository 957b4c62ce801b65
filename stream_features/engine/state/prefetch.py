"""Prefetches the memory of entities whose rows come a little later.

Entities are scattered over memory; waiting for them took a third of the time of a pass.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from schemas.compiled import leaf
from stream_features.engine.state.entities import CAPACITY, EVENTS, SLOT_SIZE, START

SLOT_AHEAD: Final = 12
"""How many rows ahead a slot is prefetched."""
BLOCK_AHEAD: Final = 6
"""How many rows ahead the block that the slot points to is prefetched."""
LINE: Final = 8
"""Eight-byte numbers in a cache line."""
_intrinsic: Any = intrinsic


@_intrinsic
def _ask(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Prefetch the cache line of element `index` of a contiguous array, in memory order.

    Source: LLVM language reference, llvm.prefetch; it never faults.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(
            builder.gep(held.data, [arguments[1]]), ir.IntType(8).as_pointer()
        )
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(prefetch, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@leaf
def ask_for_slot(table, slot):  # type: ignore[no-untyped-def]
    """Prefetch the slot of an entity, which `ask_for_column` and the pass read first."""
    _ask(table.slots, slot * SLOT_SIZE)
    _ask(table.slots, slot * SLOT_SIZE + LINE)


@leaf
def ask_for_column(table, slot, column):  # type: ignore[no-untyped-def]
    """Prefetch one column of the events of an entity."""
    start = table.slots[slot, START] + column * table.slots[slot, CAPACITY]
    for place in range(0, table.slots[slot, EVENTS] + LINE, LINE):
        _ask(table.pool, start + place)

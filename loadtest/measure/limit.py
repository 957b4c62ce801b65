"""Measures latency and throughput of the bare echo, which are this machine's ceiling."""

from __future__ import annotations

from typing import Any, Final

from loadtest.deploy.deployment import Deployment
from loadtest.deploy.interrupt import Interrupt
from loadtest.deploy.processes import Meter
from loadtest.measure import report
from loadtest.measure.echo import BareEcho
from loadtest.measure.latency import percentiles_ms
from loadtest.measure.view import RunView
from loadtest.measure.watch import RunWatch
from loadtest.traffic.feed import FeedSettings
from loadtest.traffic.sender import Order
from loadtest.traffic.traffic import Traffic
from runtime.kafka.topic_admin import create_topics

PREFIX: Final = "echo-"
WARM_UP_S: Final = 2.0
LATENCY_RATE: Final = 1_000.0


def measure(
    place: Deployment,
    feed: FeedSettings,
    watch: RunWatch,
    view: RunView,
    *,
    count: int,
    seconds: float = 5.0,
) -> dict[str, Any]:
    """Send through the bare echo and return the report.

    After a warm-up, `count` transactions as fast as Kafka accepts them give the throughput, and
    then `seconds` at 1,000/s the latencies.
    """
    place = place.with_prefix(PREFIX + place.settings.topic_prefix)
    watch.restart()
    create_topics(place.settings)
    with (
        BareEcho(place.settings) as echo,
        Traffic(feed, place.settings, watch.note) as traffic,
        Interrupt() as stop,
    ):

        def show() -> bool:
            return view.tick(traffic)

        def tick() -> bool:
            return show() and not stop

        view.say("bare echo: warm-up")
        for order in (Order(rate=LATENCY_RATE, seconds=WARM_UP_S), Order(count=count // 2)):
            traffic.run(order, tick)
            traffic.drain(tick=show)
        view.say(f"bare echo: {count:,} transactions as fast as Kafka accepts them")
        traffic.begin(Order(count=count), tick)
        meter = Meter({**place.pids, **echo.pids(), **traffic.pids()})
        flat_out = traffic.finish(tick)
        traffic.drain(tick=show)
        processes = meter.read()
        last_answer = traffic.last_answer
        view.say(f"bare echo: {LATENCY_RATE:,.0f}/s for {seconds:g} s")
        paced = traffic.run(Order(rate=LATENCY_RATE, seconds=seconds), tick)
        traffic.drain(tick=show)
        traffic.listen(0.5)
        if stop:
            raise KeyboardInterrupt  # half a measurement is worth nothing
        sent_per_s = (flat_out.last - flat_out.first) / max(flat_out.seconds, 1e-9)
        return report.build(
            "limit",
            traffic.ledger,
            flat_out,
            last_answer=last_answer,
            processes=processes,
            extra={
                **percentiles_ms(traffic.ledger.latency[paced.first : paced.last]),
                "sent_per_s": round(sent_per_s, 1),
                "latency_rate": LATENCY_RATE,
            },
        )

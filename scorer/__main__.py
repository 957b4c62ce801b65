"""Command line of the scorer: `python -m scorer`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from runtime.command_line import Json, errors, run_command, say, write_report
from schemas.errors import BadMessage, ConfigurationError
from scorer.policy.file import policy_text

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
policy_app = typer.Typer(no_args_is_help=True, help="Check, publish and show the policy.")
app.add_typer(policy_app, name="policy")
PolicyFile = Annotated[Path, typer.Argument(help="JSON or YAML document, see docs/policy.md")]


@app.command("run")
def run_service() -> None:
    """Score the vectors of `features` onto `decisions` until stopped. Settings: FRAUD_*.

    Example: FRAUD_BOOTSTRAP=localhost:9092 FRAUD_HEALTH_PORT=8082 python -m scorer run
    """
    from runtime.settings import load_settings
    from scorer.process import run

    run(load_settings())


@app.command("compile")
def compile_kernels() -> None:
    """Compile the scorer's kernels into the cache.

    Example: python -m scorer compile
    """
    from scorer.warm_up import warm_up

    with errors.status("compiling the scorer (seconds, once)"):
        warm_up()


@app.command("bench")
def bench(
    bundle: Annotated[Path, typer.Argument(help="directory of a model bundle")],
    policy: Annotated[Path | None, typer.Option(help="policy document")] = None,
    shadows: Annotated[
        int, typer.Option(min=0, help="also measure the cost of this many shadow models")
    ] = 0,
    json_path: Json = None,
) -> None:
    """Measure the scorer on one thread, without Kafka, from decoding to the encoded decision.

    Example: python -m scorer bench var/models/bootstrap-1 --json var/bench.json

    Example: python -m scorer bench var/models/bootstrap-1 --shadows 2
    """
    from schemas.manifest import manifest_sha256
    from scorer.benchmark import measure, measure_shadows
    from scorer.decision.decide import Serving
    from scorer.model.bundle import load_model
    from scorer.policy.document import DEFAULT_POLICY, compile_policy

    digest = manifest_sha256(bundle)
    model = load_model(bundle, digest)
    rules = DEFAULT_POLICY if policy is None else compile_policy(policy_text(policy))
    with errors.status("measuring for about 15 s"):
        report = measure(Serving(rules, champion=model))
    for row in report["batches"]:
        say(
            f"{row['rows']:5d} rows: p50 {row['p50_ms']:.3f} ms, p99 {row['p99_ms']:.3f} ms, "
            f"{row['per_s']:,} decisions/s, {row['cpu_us_per_row']:.1f} µs of CPU per row"
        )
    if shadows:
        copies = [load_model(bundle, digest) for _ in range(shadows)]
        with errors.status("measuring shadows for about 8 s"):
            report["shadows"] = measure_shadows(Serving(rules, champion=model), copies)
        for row in report["shadows"]:
            say(
                f"{row['rows']:5d} rows: {row['cpu_ms']:.3f} ms of CPU, with {shadows} shadows "
                f"{row['cpu_with_shadows_ms']:.3f} ms: {row['ratio']:.2f} times"
            )
    write_report(report, json_path)


@policy_app.command("check")
def check_policy(path: PolicyFile) -> None:
    """Check whether a policy is valid and each of its values can match; the exit code is 2 if not.

    Example: python -m scorer policy check docs/policy.example.json
    """
    from runtime.settings import load_settings
    from scorer.policy.unmatchable import checked_policy

    policy = checked_policy(policy_text(path), load_settings().pan_key)
    say(
        f"{path}: version {policy.version}, {len(policy.rules)} rules, "
        f"{len(policy.lists)} lists, {len(policy.segments)} segments"
    )


@policy_app.command("publish")
def publish_policy(
    path: PolicyFile,
    actor: Annotated[str, typer.Option(help="who publishes it")] = "operator",
) -> None:
    """Check a policy and put it in force; running scorers switch to it between two batches.

    Example: python -m scorer policy publish docs/policy.example.json --actor jane
    """
    from runtime.kafka.clients import KafkaProducer
    from runtime.kafka.topic_admin import create_topics
    from runtime.settings import load_settings
    from schemas.codec import avro
    from schemas.topics import POLICY
    from scorer.policy.event import POLICY_ID
    from scorer.policy.unmatchable import checked_policy

    text = policy_text(path)
    settings = load_settings()
    policy = checked_policy(text, settings.pan_key)
    create_topics(settings)
    event = {
        "policy_id": POLICY_ID,
        "version": policy.version,
        "document": text,
        "occurred_at": time.time_ns() // 1_000_000,
        "actor": actor,
    }
    producer = KafkaProducer(settings)
    producer.produce(settings.topic(POLICY), POLICY_ID.encode(), avro.encode("PolicyEvent", event))
    producer.flush(30.0)
    producer.close()
    say(f"policy {policy.version} was published")


@policy_app.command("show")
def show_policy() -> None:
    """Print the policy in force: the newest valid document on the topic.

    Example: python -m scorer policy show
    """
    from runtime.kafka.reader import read_all
    from runtime.settings import load_settings
    from schemas.topics import POLICY
    from scorer.policy.document import DEFAULT_POLICY
    from scorer.policy.event import read_policy

    settings = load_settings()
    event = None
    for message in reversed(read_all(settings, settings.topic(POLICY))):
        try:
            _, event = read_policy(message)
            break
        except (BadMessage, ConfigurationError) as error:
            say(f"refused, at offset {message.offset}: {error}", "red")
    if event is None:
        print(DEFAULT_POLICY.document.model_dump_json(indent=1))
        return
    print(json.dumps(json.loads(event["document"]), indent=1))
    say(f"version {event['version']}, published by {event['actor']}")


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()

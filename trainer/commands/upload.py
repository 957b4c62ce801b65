"""`python -m trainer upload`: bring runs to MLflow that it could not take before."""

from __future__ import annotations

from pathlib import Path

from runtime.command_line import Json, say, write_report
from runtime.settings import load_settings
from schemas.errors import TrackingUnavailable
from trainer.commands.options import RunFolder


def upload(
    state: RunFolder = Path("var/trainer"),
    json_path: Json = None,
) -> None:
    """Upload the runs that wait for MLflow; exits 3 when some still have to wait.

    Example: FRAUD_MLFLOW_TRACKING_URI=http://mlflow:5000 python -m trainer upload
    """
    from trainer.training import tracking

    done = tracking.upload(load_settings(), state)
    write_report({"uploaded": done.uploaded, "left": done.left}, json_path)
    if done.left:
        raise TrackingUnavailable(
            f"{len(done.left)} runs are left in {state / 'spool'}: {done.reason}"
        )
    say(f"{len(done.uploaded)} runs uploaded")

"""Experiment trackers: MLflow and Weights & Biases, fed by the callbacks that Ray has for each."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ray.train import Checkpoint, UserCallback

Kind = Literal["mlflow", "wandb"]


@dataclass(frozen=True)
class Tracking:
    """Where runs are written besides their own folder.

    ``place`` is MLflow's tracking URI, or the project at Weights & Biases; "" leaves it to the tracker's own
    environment variables.
    """

    kind: Kind
    place: str = ""

    @classmethod
    def parse(cls, text: str) -> Tracking:
        """``mlflow``, ``mlflow=URI``, ``wandb`` or ``wandb=PROJECT``; ``ValueError`` for anything else, and where the
        tracker's package is not installed."""
        kind, _, place = text.partition("=")
        if kind not in get_args(Kind):
            raise ValueError(f"--track {text} names no tracker; give one of {', '.join(get_args(Kind))}.")
        if importlib.util.find_spec(kind) is None:
            raise ValueError(f"--track {kind} needs a package that is not installed; run: pip install {kind}")
        return cls(kind, place)  # type: ignore[arg-type]  # checked above

    def of_training(self, name: str, settings: dict[str, Any]) -> UserCallback:
        """The callback of one training on Ray Train."""
        made = {"mlflow": _ToMlflow, "wandb": _ToWandb}[self.kind]
        return made(self.place, name, settings)

    def of_search(self, name: str) -> Any:
        """The callback of all trials of a search on Ray Tune."""
        if self.kind == "mlflow":
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            return MLflowLoggerCallback(tracking_uri=self.place or None, experiment_name=name)
        from ray.air.integrations.wandb import WandbLoggerCallback

        return WandbLoggerCallback(project=self.place or "agentflan-ray", group=name)


@dataclass
class _ToTracker(UserCallback):  # type: ignore[misc]  # ray is untyped
    place: str
    name: str
    settings: dict[str, Any]
    _run: Any = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Log the step of the first worker; the run begins with the first step."""
        del run_context, checkpoint
        if self._run is None:
            self._run = self._begin()
        self._log(_numbers(metrics[0]), int(metrics[0]["step"]))

    def _begin(self) -> Any:
        raise NotImplementedError

    def _log(self, values: dict[str, float], step: int) -> None:
        raise NotImplementedError


class _ToMlflow(_ToTracker):
    def _begin(self) -> Any:
        import mlflow

        if self.place:
            mlflow.set_tracking_uri(self.place)
        mlflow.set_experiment("agentflan-ray")
        run = mlflow.start_run(run_name=self.name)
        mlflow.log_params(self.settings)
        return run

    def _log(self, values: dict[str, float], step: int) -> None:
        import mlflow

        mlflow.log_metrics(values, step=step)


class _ToWandb(_ToTracker):
    def _begin(self) -> Any:
        import wandb

        return wandb.init(project=self.place or "agentflan-ray", name=self.name, config=self.settings)

    def _log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}

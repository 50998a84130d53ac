"""All that is computed of a search's trials, apart from how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from agentflan_ray.analyse import cost, fidelity, importance, pareto, response, scaling, speed
from agentflan_ray.analyse.cost import Cost
from agentflan_ray.analyse.fidelity import Agreement
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.importance import Importance
from agentflan_ray.analyse.pareto import Front
from agentflan_ray.analyse.response import Prediction, Response
from agentflan_ray.analyse.scaling import Law
from agentflan_ray.analyse.speed import Speed


@dataclass(frozen=True)
class Analysis:
    """Each part is what was found, or a sentence on why there is nothing; ``responses`` by objective."""

    importances: list[Importance]
    responses: dict[str, Response | str]
    prediction: Prediction | str
    fronts: list[Front] | str
    agreements: list[Agreement] | str
    laws: list[Law] | str
    speeds: list[Speed] | str
    cost: Cost | str


def analyse(run: Run, price: float | None = None) -> Analysis:
    """Compute everything, the same for the same files. ``price`` is that of one device hour."""
    models = {goal.metric: response.model(run, goal) for goal in run.goals}
    first = next(iter(models.values()), "No objective is known.")
    return Analysis(
        importances=importance.importances(run),
        responses={
            metric: model if isinstance(model, str) else response.response(model) for metric, model in models.items()
        },
        prediction=first if isinstance(first, str) else response.predict(first),
        fronts=pareto.fronts(run),
        agreements=fidelity.agreements(run, run.goals[0]) if run.goals else "No objective is known.",
        laws=scaling.laws(run),
        speeds=speed.speeds(run),
        cost=cost.account(run, price),
    )

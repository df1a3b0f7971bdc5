"""The plan as an asset: no data, a page of tables, and a price that can be changed for a run."""

from __future__ import annotations

import dagster as dg

from .conftest import Graph


def test_the_plan_needs_no_data_and_shows_its_tables(graph: Graph) -> None:
    assert graph.make("training_plan") == ["training_plan"]
    assert graph.make("training_plan") == []
    shown = graph.metadata("training_plan")
    stored = graph.storage.read_json("training_plan.json")
    assert shown["parameters"] == sum(part["parameters"] for part in stored["parts"]) > 100_000
    assert "| U-Net |" in shown["parts"] and "| pretrain" in shown["memory"]
    assert "| finetune |" in shown["hours_and_cost"] and "training pass, edit" in shown["runs"]
    job = graph.run.defs.resolve_implicit_global_asset_job_def()
    dearer = job.execute_in_process(
        asset_selection=[dg.AssetKey("training_plan")],
        instance=graph.instance,
        run_config={"ops": {"training_plan": {"config": {"gpu": "H100", "price_per_hour": 200.0}}}},
    )
    assert dearer.success
    assert graph.metadata("training_plan")["cost"] > 50 * shown["cost"] > 0
    assert graph.storage.read_json("training_plan.json")["assumptions"]["gpu"]["name"] == "H100"

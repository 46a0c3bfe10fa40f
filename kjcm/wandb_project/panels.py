"""The panels of kjcm's W&B workspace, one record each; docs/wandb.md lists the same panels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import RunsetSettings, Section

SMOOTHED = 0.9  # weight of the earlier points
GROUP, ORDER = "Group", "val_f1_weighted"  # the runs' group, and the metric that sorts them, best first
COLUMNS = (
    "State", "Tags", "optim.lr", "data.batch_size", "val_loss", "val_f1_weighted", "test_accuracy", "test_f1_weighted",
    "test_top_5_accuracy", "n_train",
)  # fmt: skip

Kind = Literal["line", "smoothed line", "bar", "image", "table", "parallel coordinates", "importance"]


@dataclass(frozen=True)
class Panel:
    """A panel of the workspace.

    Attributes:
        section: heading above the panel.
        title: title of the panel; W&B shows a table or importance panel under a title of its own.
        kind: type of the panel.
        keys: what it shows: metrics, summary or config keys, images, or one table.
        x: metric of the x-axis of a line.
    """

    section: str
    title: str
    kind: Kind
    keys: tuple[str, ...]
    x: str = ""


PANELS = (
    Panel("Learning", "training and validation loss", "line", ("train_loss", "val_loss"), "epoch"),
    Panel("Learning", "validation", "line",
          ("val_accuracy", "val_f1_weighted", "val_f1_macro", "val_top_5_accuracy"), "epoch"),
    Panel("Learning", "loss of a step", "smoothed line", ("train_loss_step",), "step"),
    Panel("Learning", "learning rate", "line", ("lr",), "step"),
    Panel("Speed", "throughput", "line", ("rows_per_second", "tokens_per_second"), "step"),
    Panel("Speed", "GPU memory, peak", "line", ("gpu_memory_gib",), "step"),
    Panel("Test", "accuracy, weighted F1, Top-5", "bar", ("test_accuracy", "test_f1_weighted", "test_top_5_accuracy")),
    Panel("Test", "confusion of major groups", "image", ("test/confusion",)),
    Panel("Test", "confusion of major groups", "table", ("test/confusion_table",)),
    Panel("Test", "most confused groups", "table", ("test/confused_pairs",)),
    Panel("Test", "every group", "table", ("test/groups",)),
    Panel("Test", "size and precision (Fig. 2)", "image", ("test/size_and_precision",)),
    Panel("Test", "reliability", "image", ("test/reliability",)),
    Panel("Test", "reliability", "table", ("test/reliability_table",)),
    Panel("Test", "errors of highest confidence", "table", ("test/errors",)),
    Panel("Search", "settings and validation F1", "parallel coordinates",
          ("optim.lr", "data.batch_size", "trainer.max_epochs", "val_f1_weighted")),
    Panel("Search", "importance of the settings", "importance", ("val_f1_weighted",)),
)  # fmt: skip


def sections() -> "list[Section]":
    """Return the panels by section, as wandb-workspaces has them."""
    import wandb_workspaces.workspaces as ws

    names = dict.fromkeys(panel.section for panel in PANELS)
    return [
        ws.Section(name=name, is_open=True, panels=[made(panel) for panel in PANELS if panel.section == name])
        for name in names
    ]


def made(panel: Panel) -> Any:
    """Return a panel as wandb-workspaces has it."""
    import wandb_workspaces.reports.v2 as wr

    keys = list(panel.keys)
    match panel.kind:
        case "line":
            return wr.LinePlot(title=panel.title, x=panel.x, y=keys)
        case "smoothed line":
            smoothing: Any = "exponentialTimeWeighted"
            return wr.LinePlot(
                title=panel.title, x=panel.x, y=keys, smoothing_type=smoothing, smoothing_factor=SMOOTHED
            )
        case "bar":
            return wr.BarPlot(title=panel.title, metrics=keys)
        case "image":
            return wr.MediaBrowser(title=panel.title, media_keys=keys)
        case "table":
            return wr.WeavePanelSummaryTable(table_name=keys[0])
        case "parallel coordinates":
            columns = [
                wr.ParallelCoordinatesPlotColumn(wr.Config(key) if "." in key else wr.SummaryMetric(key))
                for key in keys
            ]
            return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
        case "importance":
            return wr.ParameterImportancePlot(with_respect_to=keys[0])


def run_table() -> "RunsetSettings":
    """Return the table of runs: grouped, sorted, with its pinned columns."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    return ws.RunsetSettings(
        groupby=[expr.Metric(GROUP)],
        order=[expr.Ordering(expr.Summary(ORDER), ascending=False)],
        pinned_columns=[_column(key) for key in COLUMNS],
    )


def _column(key: str) -> str:
    """Return what W&B calls a column: it stores a config key as KEY.value, and the keys in it below."""
    if key in ("State", "Tags"):
        return {"State": "run:state", "Tags": "tags:__ALL__"}[key]
    first, dot, rest = key.partition(".")
    return f"config:{first}.value.{rest}" if dot else f"summary:{key}"

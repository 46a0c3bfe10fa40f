"""The keys of the commands for a W&B project."""

from dataclasses import dataclass

from kjcm.keys.key import key


@dataclass
class WandbProjectConfig:
    """Keys of the commands that save something in a W&B project."""

    entity: str | None = key("W&B user or team; null: WANDB_ENTITY, else the API key's default.")
    project: str = key("W&B project: 1 to 128 characters, none of `/ \\ # ? % :`.")
    dry_run: bool = key("`true`: write as JSON what would be sent, and send nothing; no API key is needed.")
    out: str | None = key("JSON file that `dry_run=true` writes; null: the screen.", path=True)


@dataclass
class WandbWorkspaceConfig(WandbProjectConfig):
    """Save kjcm's panels as a view of a W&B project's workspace ([wandb.md](wandb.md#the-workspace)).

    Install it with `pip install 'kjcm[wandb-workspaces]'`.
    """

    name: str = key("Name of the saved view.")
    overwrite: bool = key("`true`: replace the saved view of this name, or the file `out`.")


@dataclass
class WandbReportConfig(WandbProjectConfig):
    """Save a W&B Report of finished runs: means over seeds, best settings, confusion, links ([wandb.md](wandb.md#reports)).

    Install it with `pip install 'kjcm[wandb-workspaces]'`.
    """

    sweep: str = key("Folder of a sweep (`runs/.sweeps/TIME`), a run folder, or a folder that contains runs.")
    name: str | None = key("Title of the report; null: `Sweep` and the folder's name.")
    metric: str | None = key(
        "Metric that ranks the settings; null: weighted F1, accuracy or loss of the validation rows, the first of them present."
    )
    best: int = key("Settings whose overrides the report lists, the best first.", least=1, most=1000)
    overwrite: bool = key("`true`: replace the report of this title, or the file `out`.")


@dataclass
class WandbSyncConfig:
    """Send every offline W&B run below `runs` once ([wandb.md](wandb.md#offline-runs)); the same command resumes."""

    runs: str = key("Folder of all runs, or one run folder.", path=True)
    entity: str | None = key("W&B user or team to send to; null: as at the training.")
    project: str | None = key("W&B project to send to; null: as at the training.")
    retries: int = key("Times that W&B repeats a failed request; the waits between them double.", least=1, most=1000)
    dry_run: bool = key("`true`: only list what would be sent.")

"""All keys, by command and group."""

from kjcm.keys.coding import PredictConfig, TriageConfig
from kjcm.keys.commands.doctor import DoctorConfig
from kjcm.keys.commands.drift import DriftConfig
from kjcm.keys.commands.exposures import ExposeConfig, OrderConfig, TabulateConfig
from kjcm.keys.commands.recoding import ClassificationImportConfig, RecodeConfig
from kjcm.keys.commands.reports import AuditConfig, DiffConfig, ReportConfig, ReproduceConfig, RunsConfig
from kjcm.keys.commands.search import TuneConfig
from kjcm.keys.commands.serving import ReviewConfig, SearchConfig, ServeConfig
from kjcm.keys.commands.sharing import ExportConfig, PushConfig
from kjcm.keys.commands.team import TeamAgreementConfig, TeamSplitConfig
from kjcm.keys.commands.train import BaselineConfig, EvaluateConfig, PrepareConfig, PretrainConfig, TrainConfig
from kjcm.keys.commands.wandb_project import WandbReportConfig, WandbSyncConfig, WandbWorkspaceConfig
from kjcm.keys.models import EncoderConfig, EnsembleConfig, LinearConfig, NearestConfig, TokenizerConfig
from kjcm.keys.survey import AugmentConfig, ClassificationConfig, KwcsConfig, SyntheticConfig, TableConfig, TitlesConfig
from kjcm.keys.training import (
    EngineConfig,
    LogFilesConfig,
    MlflowConfig,
    PresetConfig,
    TrackioConfig,
    TrainerConfig,
    WandbConfig,
)

COMMANDS: dict[str, type] = {
    "classification_import": ClassificationImportConfig,
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "baseline": BaselineConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "recode": RecodeConfig,
    "expose": ExposeConfig,
    "tabulate": TabulateConfig,
    "order": OrderConfig,
    "drift": DriftConfig,
    "serve": ServeConfig,
    "triage": TriageConfig,
    "review": ReviewConfig,
    "team_split": TeamSplitConfig,
    "team_agreement": TeamAgreementConfig,
    "search": SearchConfig,
    "export": ExportConfig,
    "push": PushConfig,
    "doctor": DoctorConfig,
    "report": ReportConfig,
    "runs": RunsConfig,
    "diff": DiffConfig,
    "audit": AuditConfig,
    "reproduce": ReproduceConfig,
    "tune": TuneConfig,
    "pretrain": PretrainConfig,
    "wandb_workspace": WandbWorkspaceConfig,
    "wandb_report": WandbReportConfig,
    "wandb_sync": WandbSyncConfig,
}

LOGGERS: dict[str, type] = {
    "csv": LogFilesConfig, "tensorboard": LogFilesConfig, "mlflow": MlflowConfig, "trackio": TrackioConfig,
    "wandb": WandbConfig,
}  # fmt: skip

GROUPS: dict[str, dict[str, type]] = {
    "data": {"synthetic": SyntheticConfig, "kwcs": KwcsConfig, "table": TableConfig, "titles": TitlesConfig},
    "augment": {"any": AugmentConfig},
    "classification": {"any": ClassificationConfig},
    "tokenizer": {"any": TokenizerConfig},
    "model": {"any": EncoderConfig, "linear": LinearConfig, "nearest": NearestConfig, "ensemble": EnsembleConfig},
    "engine": {"any": EngineConfig},
    "trainer": {"any": TrainerConfig},
    "logger": LOGGERS,
    "preset": {"any": PresetConfig},
}

ENTRIES = ("logger",)  # groups whose files each add an entry, named as the file, to one mapping


def lead_of(group: str, choice: str) -> str:
    """Return what stands before the keys that a group's choice has."""
    return f"{group}.{choice}." if group in ENTRIES else f"{group}."

"""The commands: their functions, purposes and examples."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kjcm.keys.unread import Unread


@dataclass(frozen=True)
class Command:
    """A command and the function that it runs.

    Attributes:
        name: what is typed after `program`: one word, or two for a command of a group.
        target: module and function.
        purpose: what it does, in a few words.
        example: a command line.
        program: what is typed before `name`.
        unread: keys of its config that it does not read, in addition to those that kjcm.keys.unread lists.
    """

    name: str
    target: str
    purpose: str
    example: str
    program: str = "kjcm"
    unread: "tuple[Unread, ...]" = ()

    def __str__(self) -> str:
        return f"{self.program} {self.name}"

    @property
    def config(self) -> str:
        """Name of its config in conf/."""
        return self.name.replace(" ", "_")


COMMANDS = {
    command.name: command
    for command in (
        Command("reproduce", "kjcm.reporting.reproduce:reproduce",
                "train what is missing of the paper's models, and report",
                "kjcm reproduce out=out/report"),
        Command("report", "kjcm.reporting.report:report",
                "finished runs to the paper's tables, figures and one page",
                "kjcm report runs=runs out=out/report"),
        Command("train", "kjcm.training.train:train",
                "train and evaluate a model; -m sweeps",
                "kjcm train experiment=k_jcm"),
        Command("pretrain", "kjcm.pretraining.pretrain:pretrain",
                "an encoder on texts without codes, as a start for train",
                "kjcm pretrain data=table data.path=FILE data.columns.code=null"),
        Command("tune", "kjcm.tune.tune:tune",
                "search for hyperparameters on validation rows",
                "kjcm tune experiment=k_jcm trials=50"),
        Command("ensemble", "kjcm.training.train:train",
                "train several models and combine them; means `kjcm train model=ensemble`",
                "kjcm ensemble members=[best_offline,RUN_DIR]"),
        Command("runs", "kjcm.run_folder.runs:runs",
                "status of all runs: a table, filtered, over seeds, as CSV",
                "kjcm runs group=seed sort=f1_weighted"),
        Command("diff", "kjcm.comparison.diff:diff",
                "compare finished runs: config, metrics with tests, changed codes",
                "kjcm diff RUN_DIR OTHER_RUN_DIR out=out/diff"),
        Command("baseline", "kjcm.training.baseline:baseline",
                "measure the largest groups or a linear SVM on the same rows",
                "kjcm baseline kind=svm"),
        Command("evaluate", "kjcm.training.evaluate:evaluate",
                "a finished run on its own or on other test rows",
                "kjcm evaluate run=RUN_DIR data=table data.test_path=FILE data.columns.code=ksco7"),
        Command("triage", "kjcm.coding.triage:triage",
                "what a run accepts under each target error, before anything is coded",
                "kjcm triage run=RUN_DIR"),
        Command("predict", "kjcm.prediction.predict:predict",
                "code a file with a finished run",
                "kjcm predict run=RUN_DIR input=FILE output=FILE top_k=5"),
        Command("recode", "kjcm.recoding.recode:recode",
                "a coded file to another classification",
                "kjcm recode input=FILE output=FILE from=ksco7 to=ksco8 correspondence=FILE run=RUN_DIR"),
        Command("expose", "kjcm.exposure.expose:expose",
                "a coded file's exposures by a job-exposure matrix",
                "kjcm expose input=CODED_FILE jem=MATRIX output=FILE"),
        Command("tabulate", "kjcm.tabulation.tabulate:tabulate",
                "shares of occupations in a coded file, with the uncertainty of the coding",
                "kjcm tabulate input=CODED_FILE output=FILE by=COLUMN weight=COLUMN level=2"),
        Command("order", "kjcm.ordering.order:order",
                "which rows of a coded file to review first",
                "kjcm order input=CODED_FILE output=FILE rows=200"),
        Command("serve", "kjcm.serving.serve:serve",
                "a finished run's model as an HTTP service",
                "kjcm serve run=RUN_DIR port=8766"),
        Command("review", "kjcm.review.review:review",
                "decide the undecided rows of a coded file in your browser",
                "kjcm review run=RUN_DIR input=CODED_FILE"),
        Command("team split", "kjcm.team.split:split",
                "divide a coded file among coders; two of them get a random share",
                "kjcm team split input=CODED_FILE output=DIR coders=[kim,lee]"),
        Command("team agreement", "kjcm.team.agreement:agreement",
                "agreement of coders on doubly coded rows, and their merged codes",
                "kjcm team agreement files=[KIM_FILE,LEE_FILE] output=DIR"),
        Command("search", "kjcm.search.command:search",
                "the codes of a job title",
                "kjcm search 청소원 classification.index=FILE run=RUN_DIR"),
        Command("drift", "kjcm.drift.drift:drift",
                "is a file like the rows of a run's promise? With an audit sample",
                "kjcm drift run=RUN_DIR input=FILE sample=AUDIT_FILE triage.target_error=0.1"),
        Command("audit", "kjcm.audit.audit:audit",
                "labels that are probably wrong, as a file for review",
                "kjcm audit runs=RUNS_DIR output=FILE"),
        Command("export", "kjcm.coding.export:export",
                "a finished run's model as ONNX, checked on real rows",
                "kjcm export run=RUN_DIR format=onnx-int8"),
        Command("push", "kjcm.hub.push:push",
                "upload a finished run's model to the Hugging Face hub",
                "kjcm push run=RUN_DIR repo=ORG/NAME"),
        Command("prepare", "kjcm.training.prepare:prepare",
                "the cohort alone, with its flow counts",
                "kjcm prepare data=kwcs data.wave5=FILE data.wave6=FILE data.crosswalk=FILE out=DIR"),
        Command("classification import", "kjcm.ksco.classification_import:import_workbook",
                "a statistics office's workbook to the table that kjcm reads",
                "kjcm classification import FILE out=ksco8.tsv"),
        Command("wandb workspace", "kjcm.wandb_project.workspace:workspace",
                "save kjcm's panels as a workspace of a W&B project",
                "kjcm wandb workspace project=kjcm"),
        Command("wandb report", "kjcm.wandb_project.report:report",
                "save a W&B Report of a sweep",
                "kjcm wandb report sweep=SWEEP_DIR"),
        Command("wandb sync", "kjcm.wandb_project.sync:sync",
                "send the offline W&B runs of all run folders, each once",
                "kjcm wandb sync runs=runs"),
        Command("doctor", "kjcm.doctor:doctor",
                "what will work on this machine",
                "kjcm doctor"),
    )
}  # fmt: skip

SWEPT = ("train", "baseline")  # commands whose multiruns have a ledger: each job fills a run folder

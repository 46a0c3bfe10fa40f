"""This study's figures under the ids of experiments/paper.yaml."""

from kjcm.analysis.content import Estimate
from kjcm.analysis.study import MAIN, Study
from kjcm.metrics import REPORTED, TOP
from kjcm.reporting.tables import HALF, major_sizes

MODELS_OF_THE_SUPPLEMENT = ("k_jcm", "model_2", "model_3", "model_4")
PRINTED_MAJORS = tuple("123456789")  # Table 4 leaves out the armed forces
PRINTED = REPORTED[:4]  # the paper has no macro F1


def figures_of(study: Study) -> dict[str, Estimate]:
    """Return id -> figure for every figure that the study's runs give."""
    found = {
        f"supplementary_table_3.{key}.{name}": study.metrics[key][name]
        for key in MODELS_OF_THE_SUPPLEMENT
        if key in study.runs
        for name in PRINTED
    }
    if MAIN in study.runs:
        found |= _flow(study) | _main(study)
    for key in (MAIN, HALF):
        post_hoc = study.post_hoc(key) if key in study.runs else {}
        for side, name in (("below", "q3"), ("above", "q3_above")):
            if f"{side}.q3" in post_hoc:
                found[f"supplementary_figure_1.{key}.{name}"] = post_hoc[f"{side}.q3"]
    return found


def _flow(study: Study) -> dict[str, Estimate]:
    cohort = study.reference.cohort
    flow = cohort["flow"]
    counts = {
        f"figure_1.{name}": flow[name] for name in ("read", "unresolved", "below_cutoff", "cohort", "train", "test")
    }
    counts |= {f"figure_1.{name}": rows for name, rows in flow["read_by_file"].items() if name.startswith("wave")}
    counts |= {
        "abstract.test": flow["test"],
        "methods.groups": flow["groups"],
        "methods.groups_in_data": flow["groups"] + flow["below_cutoff_groups"],
        "methods.below_cutoff_groups": flow["below_cutoff_groups"],
        "methods.unresolved_share": flow["unresolved"] / flow["read"],
        "methods.below_cutoff_share": flow["below_cutoff"] / flow["read"],
    }
    if total := cohort["classification_groups"]:
        counts |= {"methods.groups_in_classification": total, "methods.groups_left_out": total - flow["groups"]}
    return {name: Estimate(float(value)) for name, value in counts.items()}


def _main(study: Study) -> dict[str, Estimate]:
    metrics, post_hoc = study.metrics[MAIN], study.post_hoc(MAIN)
    found = {f"table_3.{name}": metrics[name] for name in PRINTED}
    found |= {f"supplementary_table_2.top_{k}": metrics[name] for k in TOP if (name := f"top_{k}_accuracy") in metrics}
    found |= {f"figure_2.{name}": post_hoc[name] for name in ("r_squared", "p") if name in post_hoc}
    found["results.zero_precision_exceptions"] = post_hoc["never_right_though_large"]
    for major, size in major_sizes(study).items():
        if major not in PRINTED_MAJORS:
            continue
        counts = {"groups": size["groups"], "train": size["train"], "average": size["train"] / size["groups"]}
        found |= {f"table_4.{major}.{name}": Estimate(float(value)) for name, value in counts.items()}
        found |= {
            f"table_4.{major}.{name}": post_hoc[f"{major}.{name}"] for name in ("min", "max", "q1", "median", "q3")
        }
    return found

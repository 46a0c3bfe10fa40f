"""`kjcm tune`: search for hyperparameters on the validation rows; each trial is an ordinary run."""

from importlib.util import find_spec

from omegaconf import DictConfig

from kjcm.engine.device import one_of_several
from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.commands.search import TuneConfig
from kjcm.keys.composition import typed


def tune(cfg: DictConfig) -> None:
    """Run trials of the study that `cfg` defines until the study has enough; create a missing study.

    Raises:
        ConfigError: the space or another setting is unusable.
        KjcmError: the extra `tune` is not installed, the storage cannot be opened, or no trial was completed.
    """
    if find_spec("optuna") is None:
        raise KjcmError("kjcm tune needs the extra: pip install 'kjcm[tune]'.")
    if one_of_several():
        raise ConfigError(
            "Each trial trains in one process. Start several jobs with one process each, not one job with several "
            "ranks; the jobs share the study."
        )
    from hydra.core.hydra_config import HydraConfig

    from kjcm.tune.trials import take_part

    take_part(typed(cfg, TuneConfig), list(HydraConfig.get().overrides.task))

"""`kjcm tune`: a search for hyperparameters by validation rows; each trial is an ordinary run."""

from importlib.util import find_spec

from omegaconf import DictConfig

from kjcm.config.commands import TuneConfig
from kjcm.config.composition import typed
from kjcm.engine.device import one_of_several
from kjcm.errors import ConfigError, KjcmError


def tune(cfg: DictConfig) -> None:
    """Take part in the study that `cfg` defines until it has its trials; begin it where there is none.

    Raises:
        ConfigError: the space, or what goes with it, cannot be searched.
        KjcmError: the extra is not installed, the storage cannot be opened, or no trial was completed.
    """
    if find_spec("optuna") is None:
        raise KjcmError("kjcm tune needs the extra: pip install 'kjcm[tune]'.")
    if one_of_several():
        raise ConfigError(
            "kjcm tune trains each trial in one process. Start it as several jobs of one process each, not as ranks of "
            "one: they share the study."
        )
    from hydra.core.hydra_config import HydraConfig

    from kjcm.tune.trials import take_part

    take_part(typed(cfg, TuneConfig), list(HydraConfig.get().overrides.task))

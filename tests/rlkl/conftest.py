import pytest
import torch

from rlkl.model.language_model import new_model
from rlkl.tasks import addition


def tiny_model(task=addition, positions=512, trained_digits=2, width=24, layers=2, scale=4.0):
    """A random model whose next-token distributions are neither flat nor certain."""
    torch.manual_seed(0)
    model = new_model(
        task, layers=layers, heads=2, width=width, positions=positions, dropout=0.0, trained_digits=trained_digits
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


@pytest.fixture(scope="session")
def model():
    return tiny_model()


@pytest.fixture(scope="session")
def trl_model(tmp_path_factory):
    """The folder of a random model that TRL can train, where TRL is installed."""
    from .integrations.trl_runs import save_model

    return save_model(tmp_path_factory.mktemp("trl_model"))


@pytest.fixture(scope="session")
def trl_alone(trl_model, tmp_path_factory):
    """What comes of TRL's own trainer: `trl_alone(...)` gives its parameters and its log. Args: more, settings."""
    from .integrations import trl_runs

    found = {}

    def of(**more):
        if str(more) not in found:
            trainer = trl_runs.run(trl_model, tmp_path_factory.mktemp("trl_alone"), None, **more)
            found[str(more)] = trl_runs.parameters(trainer), trainer.state.log_history
        return found[str(more)]

    return of


@pytest.fixture
def trl_run(trl_model, tmp_path):
    """Our trainer after a run: `trl_run({...}, ...)`. Args: ours, settings of the weighted KL; more, of TRL."""
    from .integrations import trl_runs

    return lambda ours, **more: trl_runs.run(trl_model, tmp_path, ours, **more)

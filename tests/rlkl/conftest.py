import pytest
import torch

from rlkl import addition
from rlkl.language_model import new_model


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

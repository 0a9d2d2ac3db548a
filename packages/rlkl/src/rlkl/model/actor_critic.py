"""A policy and a critic with a shared trunk."""

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from rlkl.model.sequences import Sequences

HIDDEN = 128  # width of the critic's hidden layer, as in the paper's public code (which has two such layers; here there is one)


class ActorCritic(nn.Module):
    """A language model with a value head.

    Args:
        policy: trained in place.
    """

    def __init__(self, policy: GPT2LMHeadModel) -> None:
        super().__init__()
        self.policy = policy
        self.critic_hidden = nn.Linear(policy.config.n_embd, HIDDEN)
        self.critic_output = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.critic_output.weight)
        self.set_value(0.0)

    def set_value(self, value: float) -> None:
        """Initialise an untrained critic with this value everywhere.

        Best is the mean return of the untrained policy: with another value, all tokens of an episode would at first have
        advantages of the same sign.
        """
        nn.init.constant_(self.critic_output.bias, value)

    def forward(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """The policy's logits and the critic's values before each token.

        Returns:
            (B, T, V) logits and (B, T) values, float32.
        """
        hidden = self.policy.transformer(input_ids=sequences.inputs, use_cache=False).last_hidden_state
        values = self.critic_output(F.gelu(self.critic_hidden(hidden))).squeeze(-1).float()
        return self.policy.lm_head(hidden).float(), values

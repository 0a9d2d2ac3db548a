"""A policy and a critic on one trunk."""

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from rlkl.model.sequences import Sequences

HIDDEN = 128  # of the critic's head, as wide as in the paper's public code, which has two such layers where this has one


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
        """Let an untrained critic expect this everywhere.

        Best the mean return of the untrained policy: from a critic that starts elsewhere, every token of an episode first gets
        an advantage of the same sign.
        """
        nn.init.constant_(self.critic_output.bias, value)

    def forward(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """What the policy says, and what the critic expects, before each token.

        Returns:
            (B, T, V) logits and (B, T) values, float32.
        """
        hidden = self.policy.transformer(input_ids=sequences.inputs, use_cache=False).last_hidden_state
        values = self.critic_output(F.gelu(self.critic_hidden(hidden))).squeeze(-1).float()
        return self.policy.lm_head(hidden).float(), values

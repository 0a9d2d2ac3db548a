"""The paper's task: additions. For 128 + 367 the prompt is "Input:\\n128+367\\nTarget:" and the completion

    <scratch>
    [1,2,8] + [3,6,7] , A=[] , C=0 , 8+7+0=15 , A->5 , C->1
    [1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0
    [1] + [3] , A=[9,5] , C=0 , 1+3+0=4 , A->4 , C->0
    [] + [] , A=[4,9,5] C=0 , END
    </scratch>
    4 9 5

with a newline before and after it. There are as many lines as the longer operand has digits. A final carry is put in front of
the answer only.
"""

from rlkl.tasks.operands import Operands
from rlkl.tasks.scratchpad import Rule
from rlkl.tasks.task import Task

__all__ = ["Operands", "addition", "answer", "completion", "grade", "pieces", "prompt"]


def _sum(operands: Operands) -> int:
    return operands.first + operands.second


addition = Task(
    NAME="addition",
    PLURAL="additions",
    rule=Rule("+", "+", lambda a, b, carry: a + b + carry),
    result=_sum,
)
prompt, pieces, completion = addition.prompt, addition.pieces, addition.completion
answer, grade = addition.answer, addition.grade

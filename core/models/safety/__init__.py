"""The gate before any load. No module in here imports torch."""

from core.models.safety.content import Container
from core.models.safety.facts import FileFacts, Member, SecondOpinion, TensorFact
from core.models.safety.gate import check_file
from core.models.safety.limits import DEFAULT, Limits

__all__ = ["DEFAULT", "Container", "FileFacts", "Limits", "Member", "SecondOpinion", "TensorFact", "check_file"]

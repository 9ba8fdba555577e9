"""One finding: what is wrong with whom, since when, how often, and what to do."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.diagnosis.explanations import EXPLANATIONS, Explanation
from gateway.diagnosis.reasons import Kind

GATEWAY = ""  # the subject of what concerns the gateway as a whole
DEV_EUI_DIGITS = 16
DEV_ADDR_DIGITS = 8

Evidence = dict[str, Any]  # plain values for a page and JSON; never a key


class Finding(msgspec.Struct):
    """Something that was found, with how often and when."""

    subject: str
    kind: Kind
    words: str  # one or two sentences for a technician: what is wrong
    evidence: Evidence
    first_ns: int  # UTC, as all times here
    last_ns: int
    count: int = 1
    resolved_ns: int | None = None

    @property
    def explanation(self) -> Explanation:
        return EXPLANATIONS[self.kind]

    @property
    def remedy(self) -> str:
        return self.explanation.remedy

    @property
    def dev_eui(self) -> str | None:
        return self.subject if len(self.subject) == DEV_EUI_DIGITS else None

    @property
    def dev_addr(self) -> str | None:
        if len(self.subject) == DEV_ADDR_DIGITS:
            return self.subject
        found = self.evidence.get("dev_addr")
        return found if isinstance(found, str) else None

"""Documents of both forms are read whole or refused with line and reason."""

from __future__ import annotations

import json
from random import Random

import pytest

from hub.policy.documents import read
from hub.policy.errors import PolicyError
from hub.policy.source import Source
from hub.policy.statement import Effect

LADON = """[
  {
    "id": "pumps",
    "subjects": ["things/<pump-[0-9]+>"],
    "actions": ["publish"],
    "resources": ["channels/<.*>"],
    "effect": "allow",
    "conditions": {
      "source_ip": {"type": "CIDRCondition", "options": {"cidr": "10.0.0.0/8"}}
    }
  },
  {"subjects": ["<.*>"], "actions": ["<.*>"], "resources": ["<.*>"], "effect": "deny"}
]"""
IAM = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "own",
      "Effect": "Allow",
      "Principal": "things/*",
      "Action": ["fluxgate:Publish", "iot:Receive"],
      "Resource": "channels/*/messages/${subject_id}",
      "Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}}
    }
  ]
}"""


def test_a_ladon_list_gives_a_statement_for_each_policy() -> None:
    first, second = read("site", LADON)
    assert (first.name, first.effect, first.line) == ("site/pumps", Effect.ALLOW, 2)
    assert (second.name, second.effect, second.line) == ("site/2", Effect.DENY, 12)
    assert [condition.words for condition in first.conditions] == ["source_ip is in 10.0.0.0/8"]


def test_an_iam_document_names_actions_as_iam_does() -> None:
    (statement,) = read("site", IAM)
    assert statement.name == "site/own"
    assert [pattern.text for pattern in statement.actions.patterns] == ["publish", "deliver"]
    assert [condition.key for condition in statement.conditions] == ["source_ip"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        pytest.param("{", 1, "not JSON", id="no JSON"),
        pytest.param('{\n"effect": "allow",\n"effect": "deny"\n}', 0, "stands twice", id="a name twice"),
        pytest.param("[]", 1, "one to 1000 policies", id="empty"),
        pytest.param("7", 1, "a policy is an object", id="a number"),
        pytest.param(
            LADON.replace('"effect": "allow"', '"effect": "Allow"'), 7, "allow or deny", id="effect"
        ),
        pytest.param(
            LADON.replace('"subjects": ["things', '"subject": ["things'), 4, "no 'subject'", id="misspelt"
        ),
        pytest.param(LADON.replace('["publish"]', '["publsh"]'), 5, "none of the actions", id="action"),
        pytest.param(LADON.replace('["publish"]', "[]"), 5, "one to 256", id="no actions"),
        pytest.param(LADON.replace("[0-9]+>", "[0-9+>"), 4, "not closed", id="expression"),
        pytest.param(LADON.replace("<pump-[0-9]+>", "<pump"), 4, "a < is not closed", id="bracket"),
        pytest.param(
            LADON.replace("CIDRCondition", "CidrCondition"), 9, "no condition type", id="condition type"
        ),
        pytest.param(LADON.replace("10.0.0.0/8", "10.0.0.0/33"), 9, "no network", id="network"),
        pytest.param(LADON.replace('"source_ip"', '"sourceip"'), 9, "no request has a 'sourceip'", id="key"),
        pytest.param(IAM.replace('"Allow"', '"allow"'), 6, "Allow or Deny", id="IAM effect"),
        pytest.param(IAM.replace("2012-10-17", "2013-10-17"), 2, "Version is", id="version"),
        pytest.param(IAM.replace('"Resource"', '"Ressource"'), 9, "no 'Ressource'", id="IAM misspelt"),
        pytest.param(IAM.replace('"Principal": "things/*",', ""), 4, "either Principal", id="no principal"),
        pytest.param(IAM.replace("IpAddress", "IPAddress"), 10, "no operator", id="operator"),
        pytest.param(IAM.replace("aws:SourceIp", "aws:Referer"), 10, "no request has", id="IAM key"),
        pytest.param(IAM.replace("${subject_id}", "${subject_id"), 9, "not closed", id="variable"),
    ],
)
def test_a_wrong_document_is_refused_with_line_and_reason(text: str, line: int, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        read("site", text)
    assert caught.value.line == line


def test_one_wrong_statement_refuses_the_whole_document() -> None:
    document = json.loads(IAM)
    document["Statement"].append({"Effect": "Deny"})
    with pytest.raises(PolicyError, match=r"Statement\[1\]"):
        read("site", json.dumps(document))


def test_lines_are_those_an_editor_shows() -> None:
    source = Source('{\n "a": [1,\n  {"b\\n": "x"},\n  "]"\n ],\n "c": {}\n}')
    assert [source.line("a", 0), source.line("a", 1, "b\n"), source.line("a", 2), source.line("c")] == [
        2,
        3,
        4,
        6,
    ]


def test_damaged_documents_raise_one_error_only() -> None:
    rng = Random(5)
    read_well = 0
    for _ in range(6000):
        text = rng.choice([LADON, IAM])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            piece = rng.choice(
                ["", '"', "{", "}", "[", "]", ",", "<", ">", "$", "*", "7", "null", "\\", "é", text[:40]]
            )
            text = text[:at] + piece + text[at + rng.randrange(4) :]
        line = 0
        try:
            read("site", text)
            read_well += 1
        except PolicyError as error:
            line = error.line
        assert 0 <= line <= text.count("\n") + 1
    assert read_well > 100


def test_a_deep_document_is_refused() -> None:
    for text in ("[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "[" * 200 + "]" * 200):
        with pytest.raises(PolicyError):
            read("site", text[:60_000])

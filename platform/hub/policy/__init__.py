"""Policies: documents that say who may do what, and what they come to for one question.

In: documents in the form of Ladon or of AWS IAM (text), and requests of subject, action, resource and context.
Out: allowed, denied or not mentioned, with the statement that decided and why the others did not.
Not here: who a subject is, what a connection gives (`hub.access`), and where documents are kept (`hub.registry`).

Both forms become `Statement`s of one algebra, so one evaluator serves them. Matching takes time linear in the text,
whatever a pattern looks like: a tenant's pattern can be wrong, never slow.
"""

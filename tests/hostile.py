"""Texts that a model could write to break a page, and a document that has one of them in every text of every group."""

from __future__ import annotations

import re
from dataclasses import replace

from documents import document

from flows.report.document import Document, Group, ProblemLine, RunLine, Sheet, TreeOf, Value, Votes

TEXTS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style><style>body{display:none}</style>",
    "<img src=x onerror=alert(3)>",
    "<svg onload=alert(4)><script>alert(4)</script></svg>",
    "<iframe srcdoc='<script>parent.alert(5)</script>'></iframe>",
    '<a href="javascript:alert(6)">click</a>',
    "javascript:alert(7)",
    '" onmouseover="alert(8)" x="',
    "' autofocus onfocus='alert(9)",
    '"><img src="http://evil.test/10.png">',
    "`${alert(11)}`",
    "{{ 7 * 7 }} {% for x in y %} {# gone #}",
    "<!-- gone",
    "--><b>bold</b><!--",
    "<![CDATA[ x ]]>",
    "]]>",
    '<meta http-equiv="refresh" content="0;url=http://evil.test/">',
    '<base href="http://evil.test/">',
    '<link rel="stylesheet" href="http://evil.test/x.css">',
    '<object data="http://evil.test/"></object><embed src="http://evil.test/">',
    '<form action="http://evil.test/"><input name=x autofocus><button>go',
    "<template><p>gone</p></template><noscript>",
    "<plaintext>",
    "<textarea><title>",
    "</td></tr></table></div></section></main></body></html>",
    "&lt;b&gt; &amp;amp; &#60; &nbsp;",
    "<math><mi//xlink:href='data:x,<script>alert(28)</script>'>",
    "data:text/html,<script>alert(29)</script>",
    "url(http://evil.test/x.png); background: red } * { display: none } /*",
    '</dialog><dialog open onclick="alert(31)">',
    "x\u202egnorw\u2066 turned \u202b around",
    "\u200bzero\u200d width\ufeff\u2060",
    "a line\u2028apart\u2029and another",
    "NUL \0, U+FFFE \ufffe, U+FFFF \uffff, bell \x07, delete \x7f, C1 \x9f",
    "שלום עולם, العربية 123 (abc)",
    "e" + "\u0301\u0308\u0330" * 60 + " combined",
    "w" * 100_000,
    "👩‍👩‍👧‍👦 𝕳 \ud83d lone \udc00",
    "one\r\ntwo\rthree\n\n\tfour\x0c\x0bfive",
    "__proto__",
    "constructor",
    "%2e%2e/%00#tree=1&at=<b>",
)


def carried(text: str) -> str:
    """What HTML can carry of a text."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text.replace("\0", "␀"))


def hostile(texts: tuple[str, ...] = TEXTS) -> Document:
    """A group a text, with two runs, one problem and two trees; the text is in every field that is not a name of ours."""
    clean = document(groups=len(texts), runs=2, problems=1, branches=4)
    groups = tuple(_group(group, text) for group, text in zip(clean.groups, texts, strict=True))
    place = {cell.attempt: text for group, text in zip(groups, texts, strict=True) for cell in group.problems[0].cells}
    short = " ".join(text for text in texts if len(text) < 1000)
    trees = {attempt: _tree(tree, place[attempt]) for attempt, tree in clean.trees.items()}
    return replace(clean, title=short, made=short, version=short, command=short, notes=texts, groups=groups, trees=trees)


def _group(group: Group, text: str) -> Group:
    findings = tuple(replace(each, asks=text, answer=text, problem=each.problem and text) for each in group.findings)
    runs = tuple(_run(run, text) for run in group.runs)
    problems = tuple(_problem(each, text) for each in group.problems)
    sheets = tuple(_sheet(sheet, text) for sheet in group.sheets)
    return replace(group, title=text, findings=findings, runs=runs, problems=problems, sheets=sheets)


def _run(run: RunLine, text: str) -> RunLine:
    return replace(run, id=run.id + text, label=text, status=text, facts={text: text + run.id, text + "2": text, "seed": 1})


def _problem(problem: ProblemLine, text: str) -> ProblemLine:
    cells = tuple(replace(cell, run=cell.run + text, verdict=text, answer=text) for cell in problem.cells)
    return replace(problem, id=text, prompt=text, reference=text, cells=cells)


def _sheet(sheet: Sheet, text: str) -> Sheet:
    rows: list[dict[str, Value]] = [
        {name: text if isinstance(value, str) else value for name, value in row.items()} for row in sheet.rows
    ]
    columns = tuple(replace(column, title=text, means=text) for column in sheet.columns)
    told = replace(sheet, title=text, says=text, sql=text, computed=text, command=text, svg="")
    return replace(told, columns=columns, rows=tuple(rows))


def _tree(tree: TreeOf, text: str) -> TreeOf:
    """Its first step keeps the places of its tokens, one a character."""
    bare = [replace(each, score=None, lengths=(), chances=()) for each in tree.branches]
    first, *others = (replace(each, text=text, state=text, cause=text, finish=text, answer=text, why=text) for each in bare)
    letters = len(text) if len(text) < 1000 else 0
    sure = tuple((index % 7) / 6 for index in range(letters))
    branches = (replace(first, lengths=(1,) * letters, chances=sure), *others)
    return replace(tree, branches=branches, reason=text, votes=(Votes(text, 1, 0.5, correct=False),))


__all__ = ["TEXTS", "carried", "hostile"]

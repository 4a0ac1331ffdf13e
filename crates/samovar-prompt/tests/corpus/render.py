"""Renders templates as transformers does: Python's Jinja2 in its sandbox. Reads jobs as JSON lines, writes answers so.

A job: {"template": text, "variables": {...}, "unix_s": seconds}. An answer: {"text": ...}, {"refused": words} of
raise_exception, or {"failed": error}. Mirrors transformers/utils/chat_template_utils.py.
"""

import json
import sys
from datetime import datetime, timezone

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Refused(jinja2.exceptions.TemplateError):
    pass


class AssistantTracker(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_pass_through")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _pass_through(self, caller):
        return caller()


def raise_exception(message):
    raise Refused(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment(unix_s):
    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[AssistantTracker, loopcontrols]
    )
    jinja.filters["tojson"] = tojson
    jinja.globals["raise_exception"] = raise_exception
    now = datetime.fromtimestamp(unix_s, timezone.utc).replace(tzinfo=None)
    jinja.globals["strftime_now"] = now.strftime
    return jinja


def render(job):
    try:
        template = environment(job["unix_s"]).from_string(job["template"])
        return {"text": template.render(**job["variables"])}
    except Refused as error:
        return {"refused": str(error)}
    except Exception as error:  # Whatever Python refuses, we refuse.
        return {"failed": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(render(json.loads(line))), flush=True)

"""The Flask application: one blueprint per noun, every page a view of what the gateway's API says.

A view reads its input, asks the API once or twice and renders; failures of the API become pages here.
"""

from __future__ import annotations

import time
from typing import cast

from flask import Flask, Response, current_app, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from webui import assets, security, words
from webui.client import Gateway
from webui.config import WebuiConfig
from webui.errors import GatewayDown, Refused, SignedOut
from webui.pages import (
    account,
    applications,
    audit,
    certificates,
    claim,
    codecs,
    device_heard,
    device_import,
    device_profiles,
    device_session,
    devices,
    diagnosis,
    downlinks,
    gate,
    groups,
    home,
    is_member,
    joins,
    keys,
    mac,
    me,
    more,
    oauth,
    organisations,
    people,
    policies,
    radio,
    simple,
    upstream,
)
from webui.renewal import Renewal
from webui.sealing import Sealer
from webui.sessions import Sessions

MAX_FORM_BYTES = 64 * 1024  # the largest form is a device with its keys, below 2 KB
MAX_TEXT = 1000  # characters of one value in a page: names from the air must not grow it without end
RETRY_S = 5  # a page that found the gateway down looks again this often, also without JavaScript

SENTENCES = {
    400: ("This request makes no sense here", "The address or the form was damaged on its way."),
    401: ("You are signed out", "Sign in again; what you typed is still there when you go back."),
    403: ("Not allowed", "Ask an administrator of this gateway."),
    404: ("There is no such page", "The address is wrong, or what it showed is gone."),
    405: ("This page cannot do that", "Go back and use the buttons of the page."),
    413: ("That is too much", "The form is larger than this page accepts."),
}


def create_app(config: WebuiConfig) -> Flask:
    app = Flask("webui", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
        TRUSTED_HOSTS=list(config.trusted_hosts) or None,
    )
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True, "finalize": _bounded}
    app.extensions["webui"] = config
    app.extensions["gateway"] = Gateway.connect(config.api_url, config.api_timeout_s, config.pages_key)
    app.extensions["sessions"] = Sessions(config.sessions_path, config.session_idle_s, config.session_max_s)
    app.extensions["sealer"] = Sealer()
    app.extensions["renewal"] = Renewal(app.extensions["gateway"], app.extensions["sessions"])

    files = assets.load()
    security.install(app, config)
    app.register_blueprint(assets.blueprint(files))
    for pages in (
        *(account, claim, devices, diagnosis, home, mac, more, radio, upstream),
        *(codecs, device_heard, device_import, device_profiles, device_session, simple),
        *(people, policies, me, audit),
        *(downlinks, gate, groups, joins),
        *(applications, oauth, organisations),
        *(certificates, keys),
    ):
        app.register_blueprint(pages.blueprint)

    app.context_processor(
        lambda: {
            "asset": lambda name: files[name].url,
            "icon": lambda name: _icon(files["icons.svg"].url, name),
            "csrf_token": security.csrf_token,
            "session": security.session(),
            "notice": _notice,
            "words": words,
            "now": time.time(),
        }
    )
    app.register_error_handler(GatewayDown, _gateway_down)
    app.register_error_handler(SignedOut, _signed_out)
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _own_fault)
    return app


def close(app: Flask) -> None:
    app.extensions["gateway"].http.close()
    app.extensions["sessions"].close()


def _bounded(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup) and len(value) > MAX_TEXT:
        return value[:MAX_TEXT] + "…"
    return value


def _icon(sheet: str, name: str) -> Markup:
    return Markup('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>').format(sheet, name)


def _notice() -> str:
    found = security.session()
    return security.sessions().take_notice(found) if found else ""


def _gateway_down(error: GatewayDown) -> tuple[str, int, dict[str, str]]:
    headers = {"Retry-After": str(RETRY_S)}
    if request.headers.get("X-Fragment"):
        return render_template("_down.html"), 503, headers
    # Only a page that was read may reload itself; a form must not be sent twice.
    again = request.method == "GET"
    return render_template("down.html", retry_s=RETRY_S if again else 0, why=str(error)), 503, headers


def _signed_out(_error: SignedOut) -> AnyResponse | tuple[str, int]:
    security.end_session()
    if request.headers.get("X-Fragment"):
        return "", 401
    here = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("account.sign_in", next=here, ended=1), 303)


def _refused(error: Refused) -> AnyResponse | tuple[str, int]:
    if (
        error.status == 403
        and request.method == "GET"
        and not request.headers.get("X-Fragment")
        and is_member()
    ):
        return redirect(url_for("organisations.index"), 303)  # what shows the whole gateway is not for him
    return _sentence(error.status, error.title or "The gateway refused", error.detail)


def _http_error(error: HTTPException) -> AnyResponse | tuple[str, int]:
    if error.response is not None:
        return cast(AnyResponse, error.response)
    code = error.code or 500
    title, detail = SENTENCES.get(code, (error.name, ""))
    if error.description and error.description != type(error).description:
        detail = error.description
    answer = Response(_sentence(code, title, detail)[0], code)
    for header, value in error.get_headers():
        if header.lower() not in {"content-type", "content-length"}:
            answer.headers[header] = value
    return answer


def _own_fault(error: Exception) -> tuple[str, int]:
    current_app.logger.error("page %s failed", request.path, exc_info=error)
    return _sentence(500, "This page is broken", "It is our fault, and it is written to the log.")


def _sentence(code: int, title: str, detail: str) -> tuple[str, int]:
    return render_template("error.html", title=title, detail=detail, code=code), code

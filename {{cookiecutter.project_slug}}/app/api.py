"""What front ends call: JSON in, JSON out, from this site and the allowed origins."""

from flask import Blueprint, Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf

blueprint = Blueprint("api", __name__, url_prefix="/api")

LONGEST_MESSAGE = 200


@blueprint.get("/csrf")
def csrf() -> ResponseReturnValue:
    """Return the token that every unsafe request sends back in the header X-CSRFToken."""
    return jsonify(csrf_token=generate_csrf())


@blueprint.get("/ping")
def ping() -> ResponseReturnValue:
    """Answer pong."""
    return jsonify(message="pong")


@blueprint.post("/ping")
def echo() -> ResponseReturnValue:
    """Echo `message`, text of at most 200 characters; pong without one."""
    message = json_object().get("message", "pong")
    if not isinstance(message, str) or len(message) > LONGEST_MESSAGE:
        abort(422, f"message: give text of at most {LONGEST_MESSAGE} characters.")
    return jsonify(message=message)


def json_object() -> dict[str, object]:
    """Return the body's JSON object.

    Aborts with 415 if the body is not declared as JSON, 400 if it is none, 422 if it is no object.
    """
    try:
        body = request.get_json()
    except RecursionError:
        abort(400, "This JSON is nested too deeply.")
    if not isinstance(body, dict):
        abort(422, "Give a JSON object.")
    return body


def init_app(app: Flask) -> None:
    """Register the API."""
    app.register_blueprint(blueprint)

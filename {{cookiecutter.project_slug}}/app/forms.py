"""Take for a form what browsers send as one, and nothing else.

Flask-WTF also takes JSON, whose values may be of any shape where a field expects text, and files
under the name of any field (ASVS 2.2.1).
"""

from collections.abc import Mapping, Sequence

from flask import request
from flask_wtf import FlaskForm
from werkzeug.exceptions import UnsupportedMediaType

TYPES = ("", "application/x-www-form-urlencoded", "multipart/form-data")  # "": nothing was sent


class Form(FlaskForm):  # type: ignore[misc]  # Flask-WTF ships no types
    """A form of ours; FlaskForm adds the field `csrf_token`. Another kind of body is 415.

    Its fields are text: a view that takes a file finds it in `request.files`.
    """

    def __init__(self, **kwargs: object) -> None:
        if self.is_submitted():
            if request.mimetype not in TYPES:
                raise UnsupportedMediaType
            kwargs.setdefault("formdata", request.form)
        super().__init__(**kwargs)

    def validate(self, extra_validators: Mapping[str, Sequence[object]] | None = None) -> bool:
        """Return whether all is well; if not, the page opens at the first field that is wrong."""
        is_good: bool = super().validate(extra_validators)
        wrong = next((field for field in self if field.errors), None)
        if wrong is not None:
            wrong.render_kw = {**(wrong.render_kw or {}), "autofocus": True}
        return is_good

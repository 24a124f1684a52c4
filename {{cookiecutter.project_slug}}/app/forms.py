"""Read a form from its fields alone: Flask-WTF takes JSON as well, whose values are no text."""

from flask import abort, request
from flask_wtf import FlaskForm


class Form(FlaskForm):  # type: ignore[misc]  # Flask-WTF ships no types
    """What every form inherits from; FlaskForm adds the field `csrf_token`."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        """How Flask-WTF finds the fields."""

        def wrap_formdata(self, form: FlaskForm, formdata: object) -> object:
            """Return the fields that were sent; abort with 415 if JSON was."""
            if request.is_json:
                abort(415)
            return super().wrap_formdata(form, formdata)

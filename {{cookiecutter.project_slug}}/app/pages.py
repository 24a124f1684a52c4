"""Pages anyone may read, and the worked example of a form."""

from flask import Blueprint, Flask, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from wtforms import EmailField, StringField, TextAreaField
from wtforms.validators import Email, InputRequired, Length

from .forms import Form
from .security import rate_limits

blueprint = Blueprint("pages", __name__)


class ContactForm(Form):
    """A message to us."""

    name = StringField("Your name", [InputRequired("Please tell us your name."), Length(max=100)])
    email = EmailField(
        "Your email address",
        [
            InputRequired("Please give an address we can answer to."),
            Email("This does not look like an email address."),
            Length(max=254),
        ],
    )
    message = TextAreaField(
        "Your message", [InputRequired("Please write a message."), Length(max=2_000)]
    )


@blueprint.get("/")
def home() -> ResponseReturnValue:
    """Say what this is."""
    return render_template("home.html")


@blueprint.route("/contact", methods=["GET", "POST"])
@rate_limits.strict("contact")
def contact() -> ResponseReturnValue:
    """Take a message: 303 with a thank-you, or 422 with the errors beside the fields."""
    form = ContactForm()
    if form.validate_on_submit():
        # Hand form.data to your mailer or ticket system here.
        flash(f"Thank you, {form.name.data}. Your message has passed every check.")
        return redirect(url_for("pages.contact"), 303)
    return render_template("contact.html", form=form), 422 if form.is_submitted() else 200


def init_app(app: Flask) -> None:
    """Register the pages."""
    app.register_blueprint(blueprint)
